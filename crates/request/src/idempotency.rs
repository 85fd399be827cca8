//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header), independent of the protocol.
//!
//! A client without an answer sends its request again with the same key. The request is then
//! carried out once, and its answer is replayed. The key and the [`Fingerprint`] of the request are
//! a [`Claim`].
//!
//! This module has no storage. The claim has to commit with the work that it protects, so it is
//! written by the store of that work, in the same transaction. A shared table of keys with queries
//! of its own would add a round trip, and a crash between the two would lose or repeat an answer.
//!
//! ```
//! use request::idempotency::{Claim, Fingerprint, IdempotencyKey, KeyConflict};
//! use time::OffsetDateTime;
//! use uuid::Uuid;
//!
//! let send = |text: &str| Fingerprint::of_parts(&[b"send mail", text.as_bytes()]);
//! let claim = Claim {
//!     user: Uuid::from_u128(1),
//!     key: IdempotencyKey::parse("8e03978e-40d5-43dd-bc93-6894a57f9324").expect("visible ASCII"),
//!     fingerprint: send("hello"),
//!     expires_at: OffsetDateTime::UNIX_EPOCH,
//! };
//! // The fingerprint that the database has for this key.
//! assert_eq!(claim.verify(send("hello").as_bytes()), Ok(()));
//! assert_eq!(claim.verify(send("bye").as_bytes()), Err(KeyConflict::Mismatch));
//! ```

use aws_lc_rs::digest::{Context, SHA256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::problem::{Problem, codes};

/// Seconds after which a request with the same key has most likely ended.
const IN_PROGRESS_RETRY: u64 = 1;

/// The client's key: 1 to 255 visible ASCII characters, without any normalization.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identifies a request by the SHA-256 of its values. Replicas of different versions compare stored
/// fingerprints, so the value for a request must never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes the name of the operation and the values of the request. Every part is hashed with
    /// its length, so that different lists of parts differ.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }

    /// The bytes, for the database.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A key and the request that it belongs to. It is written in the transaction of the request.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Keys of different users are independent.
    pub user: Uuid,
    /// The client's key.
    pub key: IdempotencyKey,
    /// Fingerprint of the request that the key came with.
    pub fingerprint: Fingerprint,
    /// The answer is replayed until this time.
    pub expires_at: OffsetDateTime,
}

impl Claim {
    /// A number for user and key, for locks of the database that are numbers. If two keys share a
    /// number, one of them may get [`KeyConflict::InProgress`] once too often.
    #[must_use]
    pub fn lock_number(&self) -> i64 {
        let digest = Fingerprint::of_parts(&[
            b"idempotency key",
            self.user.as_bytes(),
            self.key.as_str().as_bytes(),
        ]);
        let mut number = [0; 8];
        number.copy_from_slice(&digest.0[..8]);
        i64::from_be_bytes(number)
    }

    /// Checks that the stored fingerprint of the key is the one of this request.
    ///
    /// # Errors
    /// [`KeyConflict::Mismatch`].
    pub fn verify(&self, stored_fingerprint: &[u8]) -> Result<(), KeyConflict> {
        if self.fingerprint.as_bytes() == stored_fingerprint {
            Ok(())
        } else {
            Err(KeyConflict::Mismatch)
        }
    }
}

/// The reason why a request cannot use its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyConflict {
    /// The key was used with another request before.
    #[error("the idempotency key belongs to another request")]
    Mismatch,
    /// A request with this key is running.
    #[error("a request with this idempotency key is running")]
    InProgress,
}

impl From<KeyConflict> for Problem {
    fn from(conflict: KeyConflict) -> Self {
        match conflict {
            KeyConflict::Mismatch => Self::new(
                codes::IDEMPOTENCY_MISMATCH,
                "This key was used for another request; choose a new one for each.",
            ),
            KeyConflict::InProgress => Self::new(
                codes::IDEMPOTENCY_IN_PROGRESS,
                "A request with this key is being carried out; ask again for its answer.",
            )
            .retry_after(IN_PROGRESS_RETRY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_ascii_of_bounded_length() {
        for key in [
            "k",
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
            &"~".repeat(255),
        ] {
            assert!(IdempotencyKey::parse(key).is_some(), "{key}");
        }
        for key in ["", "a b", "a\tb", "ä", "\u{7f}", &"k".repeat(256)] {
            assert!(IdempotencyKey::parse(key).is_none(), "{key}");
        }
    }

    /// Replicas of different versions share the table of keys and the locks. The expected values
    /// come from another implementation of SHA-256.
    #[test]
    fn fingerprints_and_lock_numbers_never_change() {
        let fingerprint = Fingerprint::of_parts(&[b"a", b"", b"bc"]);
        let digits = telemetry::hex::digits(fingerprint.0);
        assert_eq!(
            std::str::from_utf8(digits.as_flattened()).unwrap(),
            "fb9abcb07180be92066c09ce253c0a060e4634fe3accf064b556d89a691c8e5f"
        );
        let claim = Claim {
            user: Uuid::from_u128(3),
            key: IdempotencyKey::parse("k").unwrap(),
            fingerprint,
            expires_at: OffsetDateTime::UNIX_EPOCH,
        };
        assert_eq!(claim.lock_number(), 1_148_851_011_006_197_256);
    }

    #[test]
    fn the_boundaries_between_parts_count() {
        let fingerprints = [
            Fingerprint::of_parts(&[b"ab", b"c"]),
            Fingerprint::of_parts(&[b"a", b"bc"]),
            Fingerprint::of_parts(&[b"abc"]),
            Fingerprint::of_parts(&[b"abc", b""]),
        ];
        for (index, one) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[index + 1..].contains(one), "{index}");
        }
    }
}
