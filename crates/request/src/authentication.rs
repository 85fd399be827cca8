//! The trait that derives the [`Principal`] of a request from credentials.
//!
//! Users, tokens and keys belong to the implementation of [`Authenticator`].

use async_trait::async_trait;

use crate::authorization::Denied;
use crate::principal::Principal;
use crate::problem::Problem;

/// The credentials of a client.
#[derive(Debug, Clone, Copy)]
pub enum Credentials<'a> {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(&'a str),
    /// `X-API-Key: …`.
    ApiKey(&'a str),
}

/// The reason why credentials were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Wrong, expired or revoked. The answer does not distinguish these.
    #[error("the credentials were refused")]
    Refused,
    /// The credentials could not be checked. The client gets this problem.
    #[error("the credentials could not be checked")]
    Unchecked(Problem),
}

/// Derives the principal from credentials.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The principal of credentials that were verified a moment ago, from a cache. `None` if they
    /// have to be verified.
    fn cached_principal(&self, credentials: Credentials<'_>) -> Option<Principal>;

    /// Verifies credentials.
    ///
    /// # Errors
    /// [`AuthError::Refused`] for invalid credentials, [`AuthError::Unchecked`] if they could not
    /// be checked.
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Principal, AuthError>;

    /// Records that a request of this principal was refused, before its client gets the answer.
    async fn record_denial(&self, principal: &Principal, reason: Denied);
}
