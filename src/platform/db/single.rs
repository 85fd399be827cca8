//! Work that at most one process of many may do at a time.

use std::time::Duration;

use super::{Database, DbError};

/// For saying goodbye to the server.
#[cfg(feature = "postgres")]
const GOODBYE: Duration = Duration::from_secs(1);

/// The right to do it; ends when dropped, and with the process that holds it.
pub struct Turn {
    /// A connection of its own: the lock is the session's, and a long run takes no
    /// place of the pool. SQLite has one process, and so nobody to keep out.
    #[cfg(feature = "postgres")]
    session: Option<sqlx::PgConnection>,
}

impl Turn {
    /// Makes sure that the right still stands: a server that was restarted has
    /// forgotten it.
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
        if let Some(session) = self.session {
            use sqlx::Connection as _;
            // It ends with the socket in any case.
            let _closed = tokio::time::timeout(GOODBYE, session.close()).await;
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
                use sqlx::ConnectOptions as _;
                let options = db.warm.pool.connect_options();
                let mut session = options.connect().await?;
                let taken = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)")
                    .bind(key(name))
                    .fetch_one(&mut session)
                    .await?;
                Ok(taken.then_some(Turn {
                    session: Some(session),
                }))
            }
        }
    }
}

/// FNV-1a over the service's and the work's name: advisory locks have numbers, and
/// several services may share a database.
#[cfg(feature = "postgres")]
fn key(name: &str) -> i64 {
    let text = [env!("CARGO_PKG_NAME"), "/", name].concat();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::from_be_bytes(hash.to_be_bytes())
}
