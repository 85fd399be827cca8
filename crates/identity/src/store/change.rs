//! Preconditions and results of changes to users, and the part of other slices in an erasure.

use async_trait::async_trait;
use db::DbError;
use request::Problem;
use uuid::Uuid;

/// Versions from which a change may start (`If-Match`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Any version.
    Any,
    /// One of these versions. An empty list accepts none.
    OneOf(Vec<i64>),
}

impl ExpectedVersion {
    /// Whether a change may start from this version.
    #[must_use]
    pub fn accepts(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// Result of adding the first administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAdministrator {
    /// The user was added.
    Created,
    /// There is an administrator already.
    NotNeeded,
    /// Another user, who is no administrator, has the address.
    AddressTaken {
        /// The user with the address.
        user: Uuid,
    },
}

/// Result of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// The user is an administrator now.
    Promoted,
    /// The user was an administrator before.
    AlreadyAdministrator,
    /// The user is erased or never existed.
    NoSuchUser,
}

/// Reasons why a user was not changed or erased.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The user is erased or never existed.
    #[error("there is no such user")]
    NoSuchUser,
    /// The version is not an expected one.
    #[error("the user has another version")]
    VersionMismatch,
    /// The password was changed since it was verified.
    #[error("the password was changed since it was verified")]
    PasswordChanged,
    /// Another user has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// The user has as many API keys as the limit allows.
    #[error("the user has too many API keys")]
    TooManyApiKeys,
    /// The user is the last administrator, who can neither be erased nor lose the role.
    #[error("the user is the last administrator")]
    LastAdministrator,
    /// A hook refused the erasure. The client gets this problem.
    #[error("the erasure was refused")]
    ErasureRefused(Problem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl ChangeError {
    /// Distinguishes a taken address from other failures of the database.
    pub(crate) fn from_write(error: sqlx::Error) -> Self {
        let error = DbError::from(error);
        if error.violates("users_email_key", "users.email") {
            Self::EmailTaken
        } else {
            Self::Database(error)
        }
    }
}

/// The part that another slice has in the erasure of a user. It can refuse the erasure. It changes
/// rows of its slice in the transaction that erases the user.
#[async_trait]
pub trait ErasureHook<B: sqlx::Database>: Send + Sync + 'static {
    /// Changes or removes the rows of the slice that refer to the user.
    ///
    /// # Errors
    /// A refusal or a failure of the database. Both roll back the whole erasure.
    async fn erase(&self, connection: &mut B::Connection, user: Uuid) -> Result<(), ErasureError>;
}

/// Reasons why a user cannot be erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// A hook refused. The client gets this problem.
    #[error("the erasure was refused")]
    Refused(Problem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<ErasureError> for ChangeError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Refused(problem) => Self::ErasureRefused(problem),
            ErasureError::Database(error) => Self::Database(error),
        }
    }
}
