//! Data of refresh tokens that services and stores exchange.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::Access;

/// SHA-256 of a refresh token, stored in its place.
pub type TokenHash = [u8; 32];

/// A family of refresh tokens to be created after a verified login.
#[derive(Clone)]
pub struct NewFamily {
    /// Id of the family.
    pub id: Uuid,
    /// The user who logged in.
    pub user: Uuid,
    /// The hash that the password was compared with. If it is no longer the user's, the password
    /// was changed meanwhile and the login is void.
    pub verified_hash: String,
    /// Replacement of the hash, if its parameters are out of date.
    pub rehashed: Option<String>,
    /// The first token of the family.
    pub token: TokenHash,
    /// Expiry of the first token.
    pub expires_at: OffsetDateTime,
    /// Time of the login.
    pub now: OffsetDateTime,
}

/// A request to replace a refresh token by its successor.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The token that the client sent.
    pub presented: TokenHash,
    /// Its successor.
    pub successor: TokenHash,
    /// Expiry of the successor.
    pub expires_at: OffsetDateTime,
    /// Time after a rotation in which a reuse of the old token revokes nothing.
    pub grace: Duration,
    /// Time of the refresh.
    pub now: OffsetDateTime,
}

/// Result of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// The successor is stored.
    Done {
        /// The user of the family.
        user: Uuid,
        /// Role and epoch for the access token.
        access: Access,
    },
    /// The token was rotated within the grace period, for example by another request of the client.
    WithinGrace,
    /// The token was rotated earlier, so there is a copy of it. The family is revoked.
    Reused {
        /// The user of the family.
        user: Uuid,
        /// Id of the family.
        family: Uuid,
    },
    /// The token is unknown, expired or revoked.
    Refused,
}

/// A known token as both databases store it. The decision about it is here, so that the stores
/// cannot drift apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundToken {
    pub(crate) revoked: bool,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) rotated_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenState {
    Usable,
    WithinGrace,
    Reused,
    Refused,
}

impl FoundToken {
    pub(crate) fn state(&self, now: OffsetDateTime, grace: Duration) -> TokenState {
        if self.revoked || self.expires_at <= now {
            return TokenState::Refused;
        }
        match self.rotated_at {
            None => TokenState::Usable,
            // A clock behind the clock of the rotating replica gives a negative time, which counts
            // as zero.
            Some(at) if (now - at).max(time::Duration::ZERO) < grace => TokenState::WithinGrace,
            Some(_) => TokenState::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn state(rotated: Option<i64>, expires: i64, revoked: bool, now: i64) -> TokenState {
        let at = |second| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second);
        FoundToken {
            revoked,
            expires_at: at(expires),
            rotated_at: rotated.map(at),
        }
        .state(at(now), GRACE)
    }

    #[test]
    fn a_token_is_usable_once_until_it_expires() {
        assert_eq!(state(None, 100, false, 99), TokenState::Usable);
        assert_eq!(state(None, 100, false, 100), TokenState::Refused);
        assert_eq!(state(None, 100, true, 1), TokenState::Refused);
    }

    #[test]
    fn a_rotated_token_is_a_race_within_the_grace_and_a_theft_after_it() {
        assert_eq!(state(Some(50), 100, false, 50), TokenState::WithinGrace);
        assert_eq!(state(Some(50), 100, false, 59), TokenState::WithinGrace);
        assert_eq!(state(Some(50), 100, false, 60), TokenState::Reused);
        // The clock of the rotating replica was ahead.
        assert_eq!(state(Some(50), 100, false, 48), TokenState::WithinGrace);
        assert_eq!(state(Some(50), 100, true, 51), TokenState::Refused);
    }

    #[test]
    fn without_a_grace_the_first_repetition_is_a_theft() {
        let at = |second| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second);
        let token = FoundToken {
            revoked: false,
            expires_at: at(100),
            rotated_at: Some(at(50)),
        };
        assert_eq!(token.state(at(50), Duration::ZERO), TokenState::Reused);
        assert_eq!(token.state(at(49), Duration::ZERO), TokenState::Reused);
    }
}
