//! Errors of the identity slice, in one enum for all of its routes.

use db::DbError;
use limits::RateLimitExceeded;
use request::Problem;

use super::password::HashError;
use super::store::{ChangeError, EraseError};

/// Reasons why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another user has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// Unknown user or wrong password. Clients do not learn which.
    #[error("wrong credentials")]
    InvalidCredentials,
    /// The present password, required as confirmation, is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// Unknown, expired, revoked or reused.
    #[error("the refresh token was refused")]
    RefreshRefused,
    /// The token was rotated within the grace period.
    #[error("the refresh token was rotated a moment ago")]
    RefreshRotated,
    /// The user is erased.
    #[error("there is no such user")]
    Gone,
    /// The version is not one of `If-Match`.
    #[error("the user has changed")]
    Stale,
    /// A part of the service refuses the erasure. The client gets this problem.
    #[error("the erasure was refused")]
    Kept(Problem),
    /// Too many guesses of a password, from one address or at one user.
    #[error(transparent)]
    RateLimitExceeded(#[from] RateLimitExceeded),
    /// No place, thread or memory for a password hash.
    #[error("no place to hash a password")]
    Overloaded,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A defect: hashing, signing or randomness failed.
    #[error("{0}")]
    Defect(String),
}

impl From<HashError> for IdentityError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded(_) => Self::Overloaded,
            HashError::Failed(why) => Self::Defect(why),
        }
    }
}

impl From<ChangeError> for IdentityError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Gone => Self::Gone,
            ChangeError::Stale => Self::Stale,
            ChangeError::Unconfirmed => Self::WrongPassword,
            ChangeError::EmailTaken => Self::EmailTaken,
            ChangeError::Database(error) => Self::Database(error),
        }
    }
}

impl From<EraseError> for IdentityError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Gone => Self::Gone,
            EraseError::Stale => Self::Stale,
            EraseError::Unconfirmed => Self::WrongPassword,
            EraseError::Kept(problem) => Self::Kept(problem),
            EraseError::Database(error) => Self::Database(error),
        }
    }
}
