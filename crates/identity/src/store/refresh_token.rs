//! Data of refresh tokens that services and stores exchange.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::AuthorizationClaims;
use crate::domain::SessionOrigin;

/// SHA-256 of a refresh token, stored in its place.
pub type RefreshTokenHash = [u8; 32];

/// A family of refresh tokens to be created after a login. It contains the first token and all of
/// its successors. Users see it as a session.
#[derive(Clone)]
pub struct NewTokenFamily {
    /// Id of the family.
    pub id: Uuid,
    /// The user who logged in.
    pub user: Uuid,
    /// The hash that the password was verified against. If it is no longer the user's, the password
    /// was changed meanwhile and no family is created.
    pub verified_hash: String,
    /// The hash with the current parameters, if the stored hash has others.
    pub upgraded_hash: Option<String>,
    /// The client that logged in.
    pub origin: SessionOrigin,
    /// Limit of the sessions of the user, this one included. The oldest ones beyond it are revoked.
    pub max_sessions: u32,
    /// The first token of the family.
    pub token: RefreshTokenHash,
    /// Expiry of the first token.
    pub expires_at: OffsetDateTime,
    /// Time of the login.
    pub now: OffsetDateTime,
}

/// A request to replace a refresh token by its successor.
#[derive(Debug, Clone)]
pub struct RotationRequest {
    /// The token that the client sent.
    pub token: RefreshTokenHash,
    /// Its successor.
    pub successor: RefreshTokenHash,
    /// Expiry of the successor, unless the session ends earlier.
    pub expires_at: OffsetDateTime,
    /// Longest life of the session.
    pub max_age: Duration,
    /// The client that refreshes.
    pub origin: SessionOrigin,
    /// Time after a rotation in which a reuse of the old token revokes nothing.
    pub grace: Duration,
    /// Time of the refresh.
    pub now: OffsetDateTime,
}

/// Result of a request to rotate a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationOutcome {
    /// The successor is stored.
    Rotated {
        /// The user of the family.
        user: Uuid,
        /// Id of the family.
        family: Uuid,
        /// Role and token epoch of the user.
        claims: AuthorizationClaims,
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
    Invalid,
}

/// A refresh token in the database, with its family and its user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredToken {
    pub(crate) family: Uuid,
    pub(crate) user: Uuid,
    /// Role and token epoch of the user.
    pub(crate) claims: AuthorizationClaims,
    /// Creation of the family.
    pub(crate) created_at: OffsetDateTime,
    /// The family is revoked.
    pub(crate) revoked: bool,
    /// Expiry of the token.
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) rotated_at: Option<OffsetDateTime>,
}

/// The state of a refresh token at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefreshTokenState {
    /// It can be rotated.
    Valid,
    /// It was rotated within the grace period.
    WithinGrace,
    /// It was rotated before the grace period.
    Reused,
    /// It is expired or revoked.
    Invalid,
}

impl StoredToken {
    /// The state at the time `now`.
    pub(crate) fn state(&self, now: OffsetDateTime, grace: Duration) -> RefreshTokenState {
        if self.revoked || self.expires_at <= now {
            return RefreshTokenState::Invalid;
        }
        match self.rotated_at {
            None => RefreshTokenState::Valid,
            // A clock behind the clock of the rotating replica gives a negative time, which counts
            // as zero.
            Some(at) if (now - at).max(time::Duration::ZERO) < grace => {
                RefreshTokenState::WithinGrace
            }
            Some(_) => RefreshTokenState::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use request::Role;

    const GRACE: Duration = Duration::from_secs(10);

    fn token(rotated: Option<i64>, expires: i64, revoked: bool) -> StoredToken {
        StoredToken {
            family: Uuid::nil(),
            user: Uuid::nil(),
            claims: AuthorizationClaims {
                role: Role::User,
                epoch: 0,
            },
            created_at: OffsetDateTime::UNIX_EPOCH,
            revoked,
            expires_at: second(expires),
            rotated_at: rotated.map(second),
        }
    }

    fn second(second: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)
    }

    fn state(rotated: Option<i64>, expires: i64, revoked: bool, now: i64) -> RefreshTokenState {
        token(rotated, expires, revoked).state(second(now), GRACE)
    }

    #[test]
    fn a_token_is_valid_once_until_it_expires() {
        assert_eq!(state(None, 100, false, 99), RefreshTokenState::Valid);
        assert_eq!(state(None, 100, false, 100), RefreshTokenState::Invalid);
        assert_eq!(state(None, 100, true, 1), RefreshTokenState::Invalid);
    }

    #[test]
    fn a_rotated_token_is_reused_only_after_the_grace_period() {
        let within_grace = RefreshTokenState::WithinGrace;
        assert_eq!(state(Some(50), 100, false, 50), within_grace);
        assert_eq!(state(Some(50), 100, false, 59), within_grace);
        assert_eq!(state(Some(50), 100, false, 60), RefreshTokenState::Reused);
        // The clock of the rotating replica was ahead.
        assert_eq!(state(Some(50), 100, false, 48), within_grace);
        assert_eq!(state(Some(50), 100, true, 51), RefreshTokenState::Invalid);
    }

    #[test]
    fn without_a_grace_period_a_rotated_token_is_reused_at_once() {
        let token = token(Some(50), 100, false);
        for now in [50, 49] {
            let state = token.state(second(now), Duration::ZERO);
            assert_eq!(state, RefreshTokenState::Reused);
        }
    }
}
