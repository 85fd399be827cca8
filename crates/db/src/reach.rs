//! Reaches the database once, outside of the pool, with a limit for each step.
//!
//! The pool retries a refused connection until its timeout and then reports only the timeout. A
//! separate connection keeps the cause.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use crate::database::Database;
use crate::error::DbError;
#[cfg(feature = "postgres")]
use crate::fault::Fault;
use crate::pooler;

/// The reason why the database was not reached, and its place.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// A step was not answered in time.
    #[error("{place} did not answer within {bound:?} ({step})")]
    Silent {
        /// Host and port, socket or file.
        place: String,
        /// The limit of the step.
        bound: Duration,
        /// The step.
        step: &'static str,
    },
    /// The database answered with an error, or no process listens there.
    #[error("{place}: {cause}")]
    Refused {
        /// Host and port, socket or file.
        place: String,
        /// The innermost cause, once.
        cause: String,
        /// True if another try may help.
        transient: bool,
    },
}

impl ReachError {
    /// Returns true if another try may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Refused { transient, .. } => *transient,
        }
    }
}

impl Database {
    /// Host and port, socket or file, without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => db
                .warm
                .pool
                .connect_options()
                .get_filename()
                .display()
                .to_string(),
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => match (&db.server.address, db.server.port) {
                (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
                (Some(host), Some(port)) => format!("{host}:{port}"),
                (host, _) => host.clone().unwrap_or_default(),
            },
        }
    }

    /// Connects outside of the pool and runs `SELECT 1`. Each step is limited by `bound`.
    ///
    /// # Errors
    /// The cause, with the place and the step.
    pub async fn reach(&self, bound: Duration) -> Result<(), ReachError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => {
                let connecting =
                    sqlx::sqlite::SqliteConnectOptions::clone(&db.warm.pool.connect_options())
                        .create_if_missing(true);
                let mut connection = self.step(bound, "connecting", connecting.connect()).await?;
                let asked = sqlx::query("SELECT 1").execute(&mut connection);
                self.step(bound, "SELECT 1", asked).await?;
                let _closed = timeout(bound, connection.close()).await;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => {
                let connecting = db.warm.pool.connect_options();
                let mut connection = self.step(bound, "connecting", connecting.connect()).await?;
                let asked = sqlx::query("SELECT 1").execute(&mut connection);
                self.step(bound, "SELECT 1", asked).await?;
                let _closed = timeout(bound, connection.close()).await;
            }
        }
        Ok(())
    }

    /// Turns the failure of a migration into an error. A server that cannot be written now is a
    /// [`ReachError`].
    #[cfg(feature = "postgres")]
    pub(crate) fn migration_failed(&self, error: sqlx::migrate::MigrateError) -> anyhow::Error {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)
                if Fault::of(&cause).is_transient() =>
            {
                let error = DbError::from(cause);
                let refused = ReachError::Refused {
                    place: self.place(),
                    transient: error.is_transient(),
                    cause: error.cause(),
                };
                refused.into()
            }
            other => other.into(),
        }
    }

    /// Runs one step against the database within `bound`.
    pub(crate) async fn step<T>(
        &self,
        bound: Duration,
        step: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, ReachError> {
        let place = || self.place();
        match timeout(bound, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                let advice = pooler::advice(&error);
                let error = DbError::from(error);
                Err(ReachError::Refused {
                    place: place(),
                    transient: advice.is_none() && error.is_transient(),
                    cause: match advice {
                        Some(advice) => format!("{}: {advice}", error.cause()),
                        None => error.cause(),
                    },
                })
            }
            Err(_) => Err(ReachError::Silent {
                place: place(),
                bound,
                step,
            }),
        }
    }
}
