//! Users and the rules for their parts. Input is parsed at the border, and the code behind it
//! relies on the types.

use request::Role;
use secrecy::{ExposeSecret as _, SecretString};
use settings::validation::{InvalidValue, is_plain_line, is_visible};
use time::OffsetDateTime;
use uuid::Uuid;

mod api_key;
mod breached_passwords;
mod email;
mod outside_user;
mod session;
mod user_filter;
mod weak_passwords;

pub use api_key::{ApiKey, NoRandomness, PresentedKey, SecretHash};
pub use breached_passwords::BreachedPasswords;
pub use email::Email;
pub use outside_user::{is_outside_user, outside_user};
pub use session::{Session, SessionOrigin};
pub use user_filter::{SearchText, UserFilter, UserOrder};

/// Longest name, in characters.
const MAX_NAME_CHARS: usize = 100;
/// Shortest password, in characters.
const MIN_PASSWORD_CHARS: usize = 12;
/// Longest password, in bytes. Argon2 accepts longer ones, but a server does not need them.
const MAX_PASSWORD_BYTES: usize = 256;

/// Name of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Trims and checks a name.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let name = text.trim();
        let invalid = |code, message| Err(InvalidValue { code, message });
        if name.is_empty() {
            invalid("TOO_SHORT", "must not be empty")
        } else if name.chars().count() > MAX_NAME_CHARS {
            invalid("TOO_LONG", "must have 100 characters at most")
        } else if !is_plain_line(name) {
            invalid(
                "INVALID_CHARACTER",
                "must not contain control characters or controls of text direction",
            )
        } else if !is_visible(name) {
            invalid("INVALID_CHARACTER", "must have a visible character")
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// A name that was parsed when it was stored.
    #[must_use]
    pub fn stored(name: String) -> Self {
        Self(name)
    }

    /// The trimmed name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Name {
    /// Redacted, because names are personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A password as it was typed. It is not trimmed, not normalised, and wiped when dropped.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Checks the length, and that the password is not a weak one (NIST SP 800-63B, section
    /// 3.1.1.2). `own_address` is the address of the user, if it is known. Its words count as
    /// common words.
    ///
    /// # Errors
    /// The rule that the password breaks.
    pub fn parse(text: String, own_address: Option<&Email>) -> Result<Self, InvalidValue> {
        let password = Self::for_verification(text);
        let text = password.expose();
        if text.chars().count() < MIN_PASSWORD_CHARS {
            Err(InvalidValue {
                code: "TOO_SHORT",
                message: "must have 12 characters at least",
            })
        } else if text.len() > MAX_PASSWORD_BYTES {
            Err(InvalidValue {
                code: "TOO_LONG",
                message: "must have 256 bytes at most",
            })
        } else if weak_passwords::is_weak(text, own_address.map(Email::as_str)) {
            Err(InvalidValue {
                code: "TOO_COMMON",
                message: "is too easy to guess: it consists of common words, a sequence, a repetition or your address",
            })
        } else {
            Ok(password)
        }
    }

    /// A password that a client sent to log in or to confirm an operation. Its length is not
    /// checked, so that every wrong password gets the same answer.
    #[must_use]
    pub fn for_verification(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text of the password. A call marks the place where it leaves its wrapper.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether a password of this length can have been accepted when it was chosen.
    #[must_use]
    pub fn is_hashable(&self) -> bool {
        self.expose().len() <= MAX_PASSWORD_BYTES
    }
}

/// A registered user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// UUIDv7. It stays when the personal data is erased.
    pub id: Uuid,
    /// Unique among users.
    pub email: Email,
    /// Name of the user.
    pub name: Name,
    /// Role of the user.
    pub role: Role,
    /// Time of the registration.
    pub created_at: OffsetDateTime,
    /// Raised by every change. Clients see it as `ETag`.
    pub version: i64,
}

/// Changes that a user requests. `None` keeps the current value.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// A new name.
    pub name: Option<Name>,
    /// A new address.
    pub email: Option<Email>,
}

impl UserChange {
    /// Applies the change. The version is raised only if the user differs afterwards.
    #[must_use]
    pub fn apply(&self, user: &User) -> User {
        let mut changed = user.clone();
        if let Some(name) = &self.name {
            changed.name.clone_from(name);
        }
        if let Some(email) = &self.email {
            changed.email.clone_from(email);
        }
        if changed != *user {
            changed.version += 1;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(Name::parse(" Ada ").unwrap().as_str(), "Ada");
        assert!(Name::parse(&"ä".repeat(100)).is_ok());
        for bad in [
            "",
            "   ",
            "a\u{7}b",
            "a\nb",
            "a\u{202e}b",
            "\u{200b}\u{3164}",
            &"a".repeat(101),
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_minimum_is_in_characters_and_the_maximum_in_bytes() {
        let parse = |text: String| Password::parse(text, None).map(|_| ());
        assert!(parse("äßöüéè".repeat(2) + "ç").is_ok());
        assert!(parse("äßöüéè".repeat(21) + "çñ").is_ok());
        assert_eq!(parse("ä".repeat(11)).unwrap_err().code, "TOO_SHORT");
        assert_eq!(parse("ä".repeat(129)).unwrap_err().code, "TOO_LONG");
        assert_eq!(parse("ä".repeat(12)).unwrap_err().code, "TOO_COMMON");
    }

    #[test]
    fn personal_data_and_passwords_have_no_debug_text() {
        let email = Email::parse("ada@example.org").unwrap();
        let name = Name::parse("Ada Lovelace").unwrap();
        let password = Password::parse("correct horse battery".to_owned(), None).unwrap();
        let text = format!("{email:?} {name:?} {password:?}");
        for secret in ["ada", "Ada", "horse"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn only_a_real_change_raises_the_version() {
        let user = User {
            id: Uuid::nil(),
            email: Email::parse("ada@example.org").unwrap(),
            name: Name::parse("Ada").unwrap(),
            role: Role::User,
            created_at: OffsetDateTime::UNIX_EPOCH,
            version: 1,
        };
        assert_eq!(UserChange::default().apply(&user), user);
        let same = UserChange {
            name: Some(user.name.clone()),
            email: None,
        };
        assert_eq!(same.apply(&user).version, 1);
        let other = UserChange {
            name: Some(Name::parse("Grace").unwrap()),
            email: None,
        };
        assert_eq!(other.apply(&user).version, 2);
    }
}
