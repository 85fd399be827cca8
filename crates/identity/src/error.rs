//! Errors of the identity slice, in one enum for all of its routes.

use db::DbError;
use limits::RateLimitExceeded;
use request::Problem;

use super::password::HashError;
use super::store::ChangeError;

/// Reasons why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another user has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// Unknown user or wrong password. Clients do not learn which.
    #[error("wrong credentials")]
    InvalidCredentials,
    /// The current password, required as confirmation, is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// Unknown, expired, revoked or reused.
    #[error("the refresh token is not valid")]
    InvalidRefreshToken,
    /// The token was rotated within the grace period.
    #[error("the refresh token was rotated within the grace period")]
    RefreshTokenRotated,
    /// The user is erased.
    #[error("there is no such user")]
    NoSuchUser,
    /// The user has no such session.
    #[error("the user has no such session")]
    NoSuchSession,
    /// The version is not one of `If-Match`.
    #[error("the user has changed")]
    VersionMismatch,
    /// The user is the last administrator, who can neither be erased nor lose the role.
    #[error("the user is the last administrator")]
    LastAdministrator,
    /// A part of the service refuses the erasure. The client gets this problem.
    #[error("the erasure was refused")]
    ErasureRefused(Problem),
    /// Too many wrong passwords, from one address or for one user.
    #[error(transparent)]
    RateLimited(#[from] RateLimitExceeded),
    /// No permit, thread or memory for a password hash.
    #[error("no capacity to hash a password")]
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
            HashError::Failed(reason) => Self::Defect(reason),
        }
    }
}

impl From<ChangeError> for IdentityError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoSuchUser => Self::NoSuchUser,
            ChangeError::VersionMismatch => Self::VersionMismatch,
            ChangeError::PasswordChanged => Self::WrongPassword,
            ChangeError::EmailTaken => Self::EmailTaken,
            ChangeError::LastAdministrator => Self::LastAdministrator,
            ChangeError::ErasureRefused(problem) => Self::ErasureRefused(problem),
            ChangeError::Database(error) => Self::Database(error),
        }
    }
}
