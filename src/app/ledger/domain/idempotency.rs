//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header). A client without an answer sends
//! its request again with the same key. The request is then carried out once.

use aws_lc_rs::digest::{Context, SHA256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Order, Source};

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

/// SHA-256 of the values of a request.
pub type Fingerprint = [u8; 32];

/// A key and the request that it belongs to. It is written in the transaction of its transfer.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Keys of different users are independent.
    pub user: Uuid,
    /// The client's key.
    pub key: IdempotencyKey,
    /// Fingerprint of the order that the key came with.
    pub fingerprint: Fingerprint,
    /// The answer is replayed until this time.
    pub expires_at: OffsetDateTime,
}

impl Claim {
    /// A number for user and key, because the database locks numbers. If two keys share a number,
    /// one of them may get the answer "still running" once too often.
    #[must_use]
    pub fn lock_number(&self) -> i64 {
        let digest = hash(&[
            b"idempotency key",
            self.user.as_bytes(),
            self.key.as_str().as_bytes(),
        ]);
        let mut number = [0; 8];
        number.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(number)
    }
}

impl Order {
    /// Identifies the request of an order: the operation and the values of the body. White space
    /// and the order of the members have no influence. The id and the time are excluded, because
    /// they are new with each try.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let (operation, from): (&[u8], &[u8]) = match &self.source {
            Source::Own { account, .. } => (b"transfer", account.as_bytes()),
            Source::System => (b"deposit", b""),
        };
        hash(&[
            operation,
            from,
            self.to_account.as_bytes(),
            &self.amount.get().to_be_bytes(),
            self.reference.as_str().as_bytes(),
        ])
    }
}

/// Hashes every part with its length, so that different lists of parts differ.
fn hash(parts: &[&[u8]]) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::super::{Amount, Reference};
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

    #[test]
    fn the_fingerprint_tells_every_value_of_the_body_and_nothing_else() {
        let order = Order {
            id: Uuid::from_u128(1),
            source: Source::Own {
                account: Uuid::from_u128(2),
                owner: Uuid::from_u128(3),
            },
            to_account: Uuid::from_u128(4),
            amount: Amount::parse(5).unwrap(),
            reference: Reference::parse("rent").unwrap(),
            now: OffsetDateTime::UNIX_EPOCH,
        };
        let again = Order {
            id: Uuid::from_u128(77),
            now: OffsetDateTime::UNIX_EPOCH + time::Duration::SECOND,
            ..order.clone()
        };
        assert_eq!(order.fingerprint(), again.fingerprint());
        let others = [
            Order {
                source: Source::System,
                ..order.clone()
            },
            Order {
                to_account: Uuid::from_u128(9),
                ..order.clone()
            },
            Order {
                amount: Amount::parse(6).unwrap(),
                ..order.clone()
            },
            Order {
                reference: Reference::parse("food").unwrap(),
                ..order.clone()
            },
        ];
        for other in others {
            assert_ne!(order.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }
}
