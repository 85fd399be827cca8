//! A lock for work that at most one process may do at a time.

use std::time::Duration;

use crate::database::Database;
use crate::error::DbError;

/// Time limit to close the session.
#[cfg(feature = "postgres")]
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The lock. It is released when it is dropped and when its process ends.
pub struct ExclusiveLock {
    /// A separate connection with an open transaction that holds the lock. A long run thus takes no
    /// connection of the pool, and a pooler keeps the session for it until the end. SQLite serves one
    /// process and needs no lock.
    #[cfg(feature = "postgres")]
    session: Option<sqlx::PgConnection>,
}

impl ExclusiveLock {
    /// Checks that the lock is still held, because a restarted server has lost it. It must
    /// be called more often than `idle_in_transaction_session_timeout`.
    ///
    /// # Errors
    /// When the lock cannot be verified within `bound`.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
    pub async fn verify(&mut self, bound: Duration) -> Result<(), DbError> {
        #[cfg(feature = "postgres")]
        if let Some(session) = &mut self.session {
            use sqlx::Connection as _;
            return match tokio::time::timeout(bound, session.ping()).await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(DbError::Unavailable(sqlx::Error::Io(
                    std::io::ErrorKind::TimedOut.into(),
                ))),
            };
        }
        Ok(())
    }

    /// Releases the lock and closes the session in order.
    pub async fn release(self) {
        #[cfg(feature = "postgres")]
        if let Some(mut session) = self.session {
            use sqlx::{Connection as _, Executor as _};
            // The lock ends with the socket in any case. A pooler keeps a session that is left
            // between two transactions.
            let close = async {
                session.execute(sqlx::raw_sql("ROLLBACK")).await?;
                session.close().await
            };
            let _closed = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
        }
    }
}

impl Database {
    /// Takes the lock of the work `name`. Returns `None` while another process holds it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
    pub async fn try_exclusive_lock(&self, name: &str) -> Result<Option<ExclusiveLock>, DbError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(Some(ExclusiveLock {
                #[cfg(feature = "postgres")]
                session: None,
            })),
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => {
                use sqlx::{ConnectOptions as _, Executor as _};
                let options = db.warm.pool.connect_options();
                let mut session = options.connect().await?;
                session.execute(sqlx::raw_sql("BEGIN")).await?;
                let taken = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_xact_lock($1)")
                    .bind(lock_key(db.schema.service, name))
                    .fetch_one(&mut session)
                    .await?;
                let lock = ExclusiveLock {
                    session: Some(session),
                };
                if !taken {
                    lock.release().await;
                    return Ok(None);
                }
                Ok(Some(lock))
            }
        }
    }
}

/// FNV-1a over the names of the service and the work. Advisory locks are numbers, and several
/// services may share a database.
#[cfg(feature = "postgres")]
fn lock_key(service: &str, name: &str) -> i64 {
    let text = [service, "/", name].concat();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::from_be_bytes(hash.to_be_bytes())
}
