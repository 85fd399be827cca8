//! Refresh tokens, as the stores are told of them.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::Access;

/// SHA-256 of a refresh token: what is stored in its place.
pub type TokenHash = [u8; 32];

/// A login that was verified, about to become a family of refresh tokens.
#[derive(Clone)]
pub struct NewFamily {
    /// Its id.
    pub id: Uuid,
    /// Who logged in.
    pub user: Uuid,
    /// The hash that the password was compared with. When it is no longer the
    /// user's, the password was changed meanwhile and the login is void.
    pub verified_hash: String,
    /// What replaces it, when its parameters are out of date.
    pub rehashed: Option<String>,
    /// The first token.
    pub token: TokenHash,
    /// When it expires.
    pub expires_at: OffsetDateTime,
    /// Now.
    pub now: OffsetDateTime,
}

/// A refresh: the token that was shown, and what shall follow it.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The token that was shown.
    pub presented: TokenHash,
    /// Its successor.
    pub successor: TokenHash,
    /// When the successor expires.
    pub expires_at: OffsetDateTime,
    /// How long a rotated token may come again without harm.
    pub grace: Duration,
    /// Now.
    pub now: OffsetDateTime,
}

/// What a refresh found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// The successor is stored.
    Done {
        /// Whose family it is.
        user: Uuid,
        /// Goes into the access token.
        access: Access,
    },
    /// It was rotated a moment ago: a client's race with itself.
    WithinGrace,
    /// It was rotated longer ago: somebody has a copy. The family is revoked.
    Reused {
        /// Whose family it was.
        user: Uuid,
        /// The family.
        family: Uuid,
    },
    /// Unknown, expired or revoked.
    Refused,
}

/// Decides about a token that is known, from what both databases found. Kept out
/// of the stores so that they cannot drift.
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
            // A clock behind that of the replica which rotated is no time at all.
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
        // The rotating replica's clock was ahead.
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
