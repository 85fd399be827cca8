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
pub(crate) struct SessionSettings([(&'static str, String); 4]);

impl SessionSettings {
    pub(crate) fn new(statement_timeout: Duration) -> Self {
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
    pub(crate) fn options(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The same as statements, for poolers that refuse them at the startup.
    pub(crate) fn statements(&self) -> String {
        let each = self.0.iter();
        let each = each.map(|(name, value)| format!("SET {name} = '{value}'"));
        each.collect::<Vec<_>>().join(";")
    }
}

/// What to change when a pooler does not work as it is set up. Trying again does not
/// mend that.
pub(crate) fn advice(error: &sqlx::Error) -> Option<&'static str> {
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
