//! The [`Principal`] of a request, and the trait that finds it from credentials.
//!
//! Users, tokens and keys belong to the implementation of [`Authenticator`].

use async_trait::async_trait;
use uuid::Uuid;

use crate::problem::Problem;

/// What a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Own objects only.
    User,
    /// Deposits and the administration of users.
    Admin,
}

impl Role {
    /// The word in tokens, answers and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// Reads [`Role::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "user" => Some(Self::User),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// The authenticated originator of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: Uuid,
    /// What the user may do.
    pub role: Role,
}

/// What a client showed.
#[derive(Debug, Clone, Copy)]
pub enum Credentials<'a> {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(&'a str),
    /// `X-API-Key: …`.
    ApiKey(&'a str),
}

/// Why credentials were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Wrong, expired or revoked; which one is nobody's business.
    #[error("the credentials were refused")]
    Refused,
    /// They could not be checked; the client gets this problem.
    #[error("the credentials could not be checked")]
    Unchecked(Problem),
}

/// Finds the principal behind credentials.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The principal behind credentials that were found good a moment ago; `None` when
    /// they have to be looked at.
    fn remembered(&self, credentials: Credentials<'_>) -> Option<Principal>;

    /// # Errors
    /// [`AuthError::Refused`] for credentials that are not good, else why they
    /// could not be checked.
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Principal, AuthError>;
}
