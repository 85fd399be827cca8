//! Stores of the identity slice.

use async_trait::async_trait;
use uuid::Uuid;

use crate::platform::db::DbError;

/// What another slice has to say when a user is erased, and does with its own
/// rows, in the transaction that erases the user.
#[async_trait]
pub trait ErasureHook<B: sqlx::Database>: Send + Sync + 'static {
    /// # Errors
    /// A refusal, or the database's failure; either rolls everything back.
    async fn erase(&self, connection: &mut B::Connection, user: Uuid) -> Result<(), ErasureError>;
}

/// Why a user cannot be erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The user still has something that may not be lost.
    #[error("an account still holds money")]
    NotEmpty,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}
