//! Poolers between this process and Postgres (ADR 33).
//!
//! A pooler such as PgBouncer gives a server session to a client for the time of its connection
//! (session mode) or for one transaction (transaction mode). In transaction mode the properties of
//! a session are not reliable. These are settings, session locks, and prepared statements unless
//! the pooler tracks them.

use std::time::Duration;

use settings::{RawValue, Setting};

/// Kind of server at `database.url`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pooler {
    /// The database server itself.
    #[default]
    None,
    /// A pooler in session mode.
    Session,
    /// A pooler in transaction mode.
    Transaction,
}

impl Setting for Pooler {
    const KIND: &'static str = "none, session or transaction";

    fn parse(raw: &RawValue) -> Result<Self, String> {
        match raw.text.as_str() {
            "none" => Ok(Self::None),
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

/// Settings of a session that differ from the server's defaults.
pub(crate) struct SessionSettings([(&'static str, String); 4]);

impl SessionSettings {
    pub(crate) fn new(statement_timeout: Duration) -> Self {
        // Shorter than `statement_timeout`, so that the error names the lock as the cause.
        let lock_timeout = (statement_timeout * 4 / 5).as_millis().max(1);
        Self([
            (
                "statement_timeout",
                statement_timeout.as_millis().to_string(),
            ),
            ("lock_timeout", lock_timeout.to_string()),
            ("idle_in_transaction_session_timeout", "30000".to_owned()),
            // Ends a query whose client has disconnected.
            ("client_connection_check_interval", "500".to_owned()),
        ])
    }

    /// The settings for the startup packet.
    pub(crate) fn options(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The settings as statements, for poolers that reject them in the startup packet.
    pub(crate) fn statements(&self) -> String {
        let each = self.0.iter();
        let each = each.map(|(name, value)| format!("SET {name} = '{value}'"));
        each.collect::<Vec<_>>().join(";")
    }
}

/// Names the setting to change when the pooler does not fit the configuration. Retrying does not
/// help then.
pub(crate) fn advice(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    let message = error.message();
    match &*error.code()? {
        // PgBouncer uses this code for all errors of its own.
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
