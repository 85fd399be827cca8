//! Poolers between this process and Postgres (ADR 33).
//!
//! A pooler such as PgBouncer gives a server session to a client for as long as the
//! client is connected (session mode), or for one transaction (transaction mode). In
//! transaction mode nothing that belongs to a session may be relied on: settings,
//! session locks, and prepared statements unless the pooler keeps account of them.

use std::time::Duration;

use settings::{Raw, Setting};

/// What `database.url` leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pooler {
    /// The server itself.
    #[default]
    None,
    /// A pooler in session mode.
    Session,
    /// A pooler in transaction mode.
    Transaction,
}

impl Setting for Pooler {
    const KIND: &'static str = "none, session or transaction";

    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw.text.as_str() {
            "none" => Ok(Self::None),
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

/// What a session has beyond the server's defaults.
pub(super) struct SessionSettings([(&'static str, String); 4]);

impl SessionSettings {
    pub(super) fn new(statement_timeout: Duration) -> Self {
        // Shorter, so that the error says what the statement was waiting for.
        let lock_timeout = (statement_timeout * 4 / 5).as_millis().max(1);
        Self([
            (
                "statement_timeout",
                statement_timeout.as_millis().to_string(),
            ),
            ("lock_timeout", lock_timeout.to_string()),
            ("idle_in_transaction_session_timeout", "30000".to_owned()),
            // A query whose client has hung up ends, instead of running on.
            ("client_connection_check_interval", "500".to_owned()),
        ])
    }

    /// For the startup packet.
    pub(super) fn options(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The same as statements, for poolers that refuse them at the startup.
    pub(super) fn statements(&self) -> String {
        let each = self.0.iter();
        let each = each.map(|(name, value)| format!("SET {name} = '{value}'"));
        each.collect::<Vec<_>>().join(";")
    }
}

/// What to change when a pooler does not work as it is set up. Trying again does not
/// mend that.
pub(super) fn advice(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    let message = error.message();
    match &*error.code()? {
        // PgBouncer has this one code for all that it says itself.
        "08P01" if message.starts_with("unsupported startup parameter") => Some(
            "a pooler: set database.pooler to its mode, session or transaction, or have it ignore the parameter (ignore_startup_parameters of PgBouncer)",
        ),
        "08P01" if message.contains("statement pooling") => {
            Some("a pooler in statement mode: its pool_mode must be session or transaction")
        }
        "42P05" | "26000" => Some(
            "a pooler in transaction mode that keeps no account of prepared statements: set its max_prepared_statements (PgBouncer 1.21 or newer), or its pool_mode to session",
        ),
        _ => None,
    }
}

mod inspect {
    use std::time::Duration;

    #[cfg(feature = "postgres")]
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

    #[cfg(feature = "postgres")]
    use super::Pooler;
    #[cfg(feature = "postgres")]
    use crate::platform::db::Db;
    use crate::platform::db::{Database, ReachError};

    /// A setting that no server knows: it stays with the session that it was given to.
    #[cfg(feature = "postgres")]
    const MARK: &str = "pooler.mark";

    impl Database {
        /// Finds out whether `database.pooler` is what stands before the server. Two
        /// connections say one thing after the other: behind a pooler in transaction
        /// mode the second one gets the session of the first.
        ///
        /// # Errors
        /// What to change, or why the server could not be asked within `bound`.
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
        async fn inspect(
            &self,
            db: &Db<sqlx::Postgres>,
            bound: Duration,
        ) -> Result<(), ReachError> {
            let pooler = db.peer.pooler;
            let options = db.warm.pool.connect_options();
            let mark = uuid::Uuid::now_v7().to_string();
            let mut one = self.step(bound, "connecting", options.connect()).await?;
            let marked = self.step(bound, "a transaction", leave_mark(&mut one, &mark));
            if marked.await? == "0" && pooler != Pooler::Session {
                tracing::warn!(
                    "the server does not bound statements: give the role a statement_timeout, a lock_timeout, an idle_in_transaction_session_timeout and a client_connection_check_interval"
                );
            }
            let mut two = self.step(bound, "connecting", options.connect()).await?;
            let seen = sqlx::query_scalar::<_, Option<String>>("SELECT current_setting($1, true)")
                .bind(MARK)
                .fetch_one(&mut two);
            let seen = match self.step(bound, "a second connection", seen).await {
                // In session mode every session may be taken. Who waits shares none.
                Err(ReachError::Silent { .. }) => return Ok(()),
                seen => seen?,
            };
            if seen == Some(mark) && pooler != Pooler::Transaction {
                return Err(ReachError::Refused {
                    place: self.place(),
                    cause: "sessions are shared among connections, as a pooler in transaction mode does: set database.pooler to transaction".to_owned(),
                    transient: false,
                });
            }
            for connection in [one, two] {
                let _closed = tokio::time::timeout(bound, connection.close()).await;
            }
            Ok(())
        }
    }

    /// Marks the session and reads its `statement_timeout`.
    #[cfg(feature = "postgres")]
    async fn leave_mark(session: &mut PgConnection, mark: &str) -> Result<String, sqlx::Error> {
        // Poolers in statement mode refuse it.
        session.execute(sqlx::raw_sql("BEGIN")).await?;
        let read = "SELECT set_config($1, $2, false), current_setting('statement_timeout')";
        let (_, timeout): (String, String) = sqlx::query_as(read)
            .bind(MARK)
            .bind(mark)
            .fetch_one(&mut *session)
            .await?;
        session.execute(sqlx::raw_sql("COMMIT")).await?;
        Ok(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_settings_go_with_the_startup_or_after_it() {
        let settings = SessionSettings::new(Duration::from_secs(5));
        let (names, values): (Vec<_>, Vec<_>) = settings.options().unzip();
        assert_eq!(values, ["5000", "4000", "30000", "500"]);
        let statements = settings.statements();
        for (name, value) in names.iter().zip(values) {
            assert!(statements.contains(&format!("SET {name} = '{value}'")));
        }
    }
}
