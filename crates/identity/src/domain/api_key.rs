//! API keys: long-lived credentials of a user for programs.
//!
//! A key is `<prefix>_<id>_<secret>`, for instance `gty_0193…5e6f_3f2a…`. The prefix is configured.
//! The id has 32 hexadecimal digits and the secret 64, so that secret scanners know the shape. Only
//! a hash of the secret is stored.

use std::sync::Arc;

use secrecy::SecretString;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Name;
use crate::hash::{hex, sha256};

/// Length of a secret in bytes.
const SECRET_BYTES: usize = 32;
/// Length of a written secret.
const SECRET_DIGITS: usize = 2 * SECRET_BYTES;
/// Length of a written id.
const ID_DIGITS: usize = 32;

/// SHA-256 of the secret of an API key, stored in its place.
pub type SecretHash = [u8; 32];

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// UUIDv7.
    pub id: Uuid,
    /// Name, chosen by the user.
    pub name: Name,
    /// Names of the scopes.
    pub scopes: Arc<[Box<str>]>,
    /// Time of the creation.
    pub created_at: OffsetDateTime,
    /// The key is not valid from this time on.
    pub expires_at: OffsetDateTime,
    /// Time of a use, at most a minute before the last one.
    pub last_used_at: Option<OffsetDateTime>,
}

/// The parts of the text of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentedKey {
    /// Id of the key.
    pub id: Uuid,
    /// Hash of the secret.
    pub secret_hash: SecretHash,
}

impl PresentedKey {
    /// Reads the text of a key. Any prefix is accepted, so that keys stay valid when the configured
    /// one changes. `None` if the text has another shape.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, secret) = text.rsplit_once('_')?;
        let (prefix, id) = rest.rsplit_once('_')?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_written = |text: &str, digits| text.len() == digits && text.bytes().all(is_digit);
        if prefix.is_empty() || !is_written(id, ID_DIGITS) || !is_written(secret, SECRET_DIGITS) {
            return None;
        }
        Some(Self {
            id: Uuid::try_parse(id).ok()?,
            secret_hash: sha256(secret.as_bytes()),
        })
    }

    /// Generates the text of a new key, and the parts of it that are stored.
    ///
    /// # Errors
    /// If the system provides no randomness.
    pub fn generate(prefix: &str, id: Uuid) -> Result<(SecretString, Self), NoRandomness> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| NoRandomness)?;
        let secret = hex(&secret);
        let secret_hash = sha256(secret.as_bytes());
        let text = format!("{prefix}_{}_{secret}", id.simple());
        Ok((text.into(), Self { id, secret_hash }))
    }
}

/// The system provides no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no randomness")]
pub struct NoRandomness;

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_generated_key_is_read_again() {
        let id = Uuid::from_u128(7);
        let (text, stored) = PresentedKey::generate("gty", id).unwrap();
        let text = text.expose_secret();
        assert_eq!(text.len(), "gty".len() + 1 + ID_DIGITS + 1 + SECRET_DIGITS);
        assert!(text.starts_with("gty_00000000000000000000000000000007_"));
        assert_eq!(PresentedKey::parse(text), Some(stored));
        let renamed = text.replacen("gty", "other_prefix", 1);
        assert_eq!(PresentedKey::parse(&renamed), Some(stored));
        let (again, _) = PresentedKey::generate("gty", id).unwrap();
        assert_ne!(text, again.expose_secret());
    }

    #[test]
    fn texts_of_another_shape_are_no_keys() {
        let (text, _) = PresentedKey::generate("gty", Uuid::from_u128(7)).unwrap();
        let text = text.expose_secret();
        for bad in [
            "",
            "gty",
            "gty__",
            &text[3..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace('_', "-"),
            &text.replace("_0", "_g"),
        ] {
            assert_eq!(PresentedKey::parse(bad), None, "{bad}");
        }
    }
}
