//! Checks that the pooler has the mode that the configuration names.

use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::database::Database;
#[cfg(feature = "postgres")]
use crate::database::Db;
#[cfg(feature = "postgres")]
use crate::pooler::Pooler;
use crate::reach::ReachError;

/// A setting that is unknown to every server. It stays with the session that set it.
#[cfg(feature = "postgres")]
const MARK_SETTING: &str = "pooler.mark";

/// Rounds of the check. One round can miss a shared session, because a readiness check may use the
/// session between its two statements.
#[cfg(feature = "postgres")]
const ROUNDS: u32 = 8;

impl Database {
    /// Checks that `database.pooler` matches the pooler before the server. One connection sets a
    /// mark, then a second one reads it, several times. Behind a pooler in transaction mode the
    /// second connection gets a session of the first.
    ///
    /// # Errors
    /// The setting to change, or why the server did not answer within `bound`.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(unused_variables, clippy::unused_async)
    )]
    pub async fn inspect_pooler(&self, bound: Duration) -> Result<(), ReachError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => self.inspect(db, bound).await,
        }
    }

    #[cfg(feature = "postgres")]
    async fn inspect(&self, db: &Db<sqlx::Postgres>, bound: Duration) -> Result<(), ReachError> {
        let pooler = db.server.pooler;
        let options = db.warm.pool.connect_options();
        let mark = uuid::Uuid::now_v7().to_string();
        let mut one = self.step(bound, "connecting", options.connect()).await?;
        let marked = self.step(bound, "a transaction", set_mark(&mut one, &mark));
        if marked.await? == "0" && pooler != Pooler::Session {
            tracing::warn!(
                "the server does not limit statements; set statement_timeout, lock_timeout, idle_in_transaction_session_timeout and client_connection_check_interval for its role"
            );
        }
        let mut two = self.step(bound, "connecting", options.connect()).await?;
        for _ in 0..ROUNDS {
            let seen = self.step(bound, "a second connection", read_mark(&mut two));
            match seen.await {
                // In session mode all sessions may be taken. A connection that waits shares none.
                Err(ReachError::Silent { .. }) => return Ok(()),
                Ok(Some(seen)) if seen == mark && pooler != Pooler::Transaction => {
                    return Err(ReachError::Refused {
                        place: self.place(),
                        cause: "connections share sessions, so a pooler in transaction mode is in use; set database.pooler to transaction".to_owned(),
                        transient: false,
                    });
                }
                seen => drop(seen?),
            }
            self.step(bound, "a transaction", set_mark(&mut one, &mark))
                .await?;
        }
        for connection in [one, two] {
            let _closed = tokio::time::timeout(bound, connection.close()).await;
        }
        Ok(())
    }
}

/// Marks the session and reads its `statement_timeout`.
#[cfg(feature = "postgres")]
async fn set_mark(session: &mut PgConnection, mark: &str) -> Result<String, sqlx::Error> {
    // Poolers in statement mode reject it.
    session.execute(sqlx::raw_sql("BEGIN")).await?;
    let read = "SELECT set_config($1, $2, false), current_setting('statement_timeout')";
    let (_, timeout): (String, String) = sqlx::query_as(read)
        .bind(MARK_SETTING)
        .bind(mark)
        .fetch_one(&mut *session)
        .await?;
    session.execute(sqlx::raw_sql("COMMIT")).await?;
    Ok(timeout)
}

/// Reads the mark of the session.
#[cfg(feature = "postgres")]
async fn read_mark(session: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT current_setting($1, true)")
        .bind(MARK_SETTING)
        .fetch_one(session)
        .await
}
