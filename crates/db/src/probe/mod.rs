//! Checks for the readiness probe that the database can be written.

#[cfg(feature = "sqlite")]
mod sqlite;

use crate::database::Database;
use crate::error::DbError;
#[cfg(feature = "postgres")]
use crate::fault::{DiscardReason, Fault};
#[cfg(feature = "postgres")]
use crate::query;

/// The reason why the database is not ready for writes.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The database answers but accepts no writes: a standby, or read-only by its settings.
    #[error("the database is read-only")]
    ReadOnly,
    /// The file of an embedded database was removed.
    #[error("the database's file is missing")]
    Missing,
    /// A session met damaged data, and no check has found the data intact since.
    #[error("the database is damaged")]
    Corrupt,
}

/// True on a standby, in a read-only database, and for a read-only role.
#[cfg(feature = "postgres")]
const IS_READ_ONLY: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

impl Database {
    /// Checks that the database can be written. If the server is read-only, its sessions are
    /// closed, so that new connections find the server that can be written.
    ///
    /// # Errors
    /// The reason why it cannot be written.
    pub async fn probe(&self) -> Result<(), ProbeError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => db.probe_file().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => {
                query::run(async {
                    let mut connection = db.acquire().await?;
                    let answer = sqlx::query_scalar::<_, bool>(IS_READ_ONLY);
                    let is_read_only = answer.fetch_one(&mut *connection).await;
                    if is_read_only.map_err(DbError::from)? {
                        query::record_fault(Fault::Session(DiscardReason::ReadOnly));
                        return Err(ProbeError::ReadOnly);
                    }
                    Ok(())
                })
                .await
            }
        }
    }
}
