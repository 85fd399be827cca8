//! Work that at most one process of many may do at a time.

use std::time::Duration;

use crate::database::Database;
use crate::error::DbError;

/// For saying goodbye to the server.
#[cfg(feature = "postgres")]
const GOODBYE: Duration = Duration::from_secs(1);

/// The right to do it; ends when dropped, and with the process that holds it.
pub struct Turn {
    /// A connection of its own, with an open transaction that has the lock: a long run
    /// takes no place of the pool, and a pooler leaves the session to it until the end.
    /// SQLite has one process, and so nobody to keep out.
    #[cfg(feature = "postgres")]
    session: Option<sqlx::PgConnection>,
}

impl Turn {
    /// Makes sure that the right still stands: a server that was restarted has
    /// forgotten it. To be asked more often than `idle_in_transaction_session_timeout`.
    ///
    /// # Errors
    /// When it cannot be confirmed within `bound`.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
    pub async fn confirm(&mut self, bound: Duration) -> Result<(), DbError> {
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

    /// Gives the right back, in good manners.
    pub async fn end(self) {
        #[cfg(feature = "postgres")]
        if let Some(mut session) = self.session {
            use sqlx::{Connection as _, Executor as _};
            // It ends with the socket in any case; a pooler keeps the session when it is
            // left between two transactions.
            let goodbye = async {
                session.execute(sqlx::raw_sql("ROLLBACK")).await?;
                session.close().await
            };
            let _closed = tokio::time::timeout(GOODBYE, goodbye).await;
        }
    }
}

impl Database {
    /// The right to do what `name` says, or `None` while another process has it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
    pub async fn turn(&self, name: &str) -> Result<Option<Turn>, DbError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(Some(Turn {
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
                    .bind(key(db.schema.service, name))
                    .fetch_one(&mut session)
                    .await?;
                let turn = Turn {
                    session: Some(session),
                };
                if !taken {
                    turn.end().await;
                    return Ok(None);
                }
                Ok(Some(turn))
            }
        }
    }
}

/// FNV-1a over the service's and the work's name: advisory locks have numbers, and
/// several services may share a database.
#[cfg(feature = "postgres")]
fn key(service: &str, name: &str) -> i64 {
    let text = [service, "/", name].concat();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::from_be_bytes(hash.to_be_bytes())
}
