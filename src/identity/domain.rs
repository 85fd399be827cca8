//! Users, and what their parts may be. Parsed at the border, plain inside.

use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::platform::auth::Role;
use crate::platform::validation::Invalid;

/// Longest address that mail can be sent to (RFC 5321, section 4.5.3.1.3, less the
/// angle brackets of a path).
const MAX_EMAIL: usize = 254;
/// Longest part before the `@` (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Shortest password, in characters.
const MIN_PASSWORD: usize = 12;
/// Longest password, in bytes: Argon2 takes more, a server need not.
const MAX_PASSWORD: usize = 256;

/// An e-mail address, trimmed and in lower case, so that one mailbox is one user.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Normalises and checks an address. Only sending mail to it proves one; this
    /// keeps out what cannot be an address at all.
    ///
    /// # Errors
    /// Why it is not acceptable.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let address = text.trim().to_lowercase();
        if address.len() > MAX_EMAIL {
            return Err(Invalid {
                code: "TOO_LONG",
                message: "must have 254 bytes at most",
            });
        }
        let forbidden =
            |c: char| c.is_whitespace() || c.is_control() || r#"<>()[],;:\""#.contains(c);
        let plausible = address.rsplit_once('@').is_some_and(|(local, domain)| {
            let is_label =
                |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
            (1..=MAX_LOCAL).contains(&local.len())
                && !local.contains('@')
                && domain.split('.').all(is_label)
        });
        if plausible && !address.contains(forbidden) {
            Ok(Self(address))
        } else {
            Err(Invalid {
                code: "INVALID_EMAIL",
                message: "is not an e-mail address",
            })
        }
    }

    /// An address that was parsed when it was stored.
    #[must_use]
    pub fn stored(address: String) -> Self {
        Self(address)
    }

    /// The normalised address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Email {
    /// Addresses do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a user is called.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Trims and checks a name.
    ///
    /// # Errors
    /// Why it is not acceptable.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let name = text.trim();
        let invalid = |code, message| Err(Invalid { code, message });
        if name.is_empty() {
            invalid("TOO_SHORT", "must not be empty")
        } else if name.chars().count() > MAX_NAME {
            invalid("TOO_LONG", "must have 100 characters at most")
        } else if name.chars().any(char::is_control) {
            invalid("INVALID_CHARACTER", "must not contain control characters")
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
    /// Names are personal data too.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A password as it was typed: not trimmed, not normalised, wiped when dropped.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Checks the length, the one rule that helps (NIST SP 800-63B, section 3.1.1.2).
    ///
    /// # Errors
    /// Why it is not acceptable.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        let password = Self::presented(text);
        let text = password.expose();
        if text.chars().count() < MIN_PASSWORD {
            Err(Invalid {
                code: "TOO_SHORT",
                message: "must have 12 characters at least",
            })
        } else if text.len() > MAX_PASSWORD {
            Err(Invalid {
                code: "TOO_LONG",
                message: "must have 256 bytes at most",
            })
        } else {
            Ok(password)
        }
    }

    /// What somebody claims to be a password, of whatever length: a wrong one must
    /// look like any other wrong one.
    #[must_use]
    pub fn presented(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The password itself; the call marks the place where it leaves its wrapper.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether it could have been accepted when it was chosen.
    #[must_use]
    pub fn is_hashable(&self) -> bool {
        self.expose().len() <= MAX_PASSWORD
    }
}

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// UUIDv7; stays when the rest is erased.
    pub id: Uuid,
    /// Unique among users.
    pub email: Email,
    /// What the user is called.
    pub name: Name,
    /// What the user may do.
    pub role: Role,
    /// When the user registered.
    pub created_at: OffsetDateTime,
    /// Counts changes; clients see it as `ETag`.
    pub version: i64,
}

/// What a user asks to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// A new name.
    pub name: Option<Name>,
    /// A new address.
    pub email: Option<Email>,
}

impl UserChange {
    /// Applies the change; the version counts only what is visible.
    #[must_use]
    pub fn apply(self, user: &User) -> User {
        let mut changed = user.clone();
        if let Some(name) = self.name {
            changed.name = name;
        }
        if let Some(email) = self.email {
            changed.email = email;
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
    fn an_address_is_one_mailbox_however_it_is_written() {
        let email = Email::parse("  Ada@Example.ORG ").unwrap();
        assert_eq!(email.as_str(), "ada@example.org");
        assert!(Email::parse("admin@localhost").is_ok());
        assert!(Email::parse("o'brien+tag@mail.example.org").is_ok());
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let long = format!("{}@{}.org", "a".repeat(64), "b".repeat(190));
        let local = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.org",
            "a@b@c.org",
            "a@b..org",
            "a@-b.org",
            "a\n@b.org",
            "<a@b.org>",
            "a@b.org\u{0}",
            &long,
            &local,
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(Name::parse(" Ada ").unwrap().as_str(), "Ada");
        assert!(Name::parse(&"ä".repeat(100)).is_ok());
        for bad in ["", "   ", "a\u{7}b", "a\nb", &"a".repeat(101)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_are_counted_in_characters_below_and_bytes_above() {
        let parse = |text: String| Password::parse(text).map(|_| ());
        assert!(parse("ä".repeat(12)).is_ok());
        assert!(parse("ä".repeat(128)).is_ok());
        assert_eq!(parse("ä".repeat(11)).unwrap_err().code, "TOO_SHORT");
        assert_eq!(parse("ä".repeat(129)).unwrap_err().code, "TOO_LONG");
    }

    #[test]
    fn personal_data_and_passwords_have_no_debug_text() {
        let email = Email::parse("ada@example.org").unwrap();
        let name = Name::parse("Ada Lovelace").unwrap();
        let password = Password::parse("correct horse battery".to_owned()).unwrap();
        let text = format!("{email:?} {name:?} {password:?}");
        for secret in ["ada", "Ada", "horse"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn only_a_visible_change_counts() {
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
