//! The two ways in which a database fails.

/// Why a query has no result.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Not there, out of connections, or too slow: worth another try.
    #[error("database unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Anything else is a defect.
    #[error("database error: {0}")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            Self::Unavailable(error)
        } else {
            Self::Failed(error)
        }
    }
}

impl DbError {
    /// The table constraint that a write ran into: its name on Postgres, its
    /// columns (`users.email`) on SQLite.
    #[must_use]
    pub fn violates(&self, name: &str, columns: &str) -> bool {
        let Self::Failed(sqlx::Error::Database(error)) = self else {
            return false;
        };
        error.constraint() == Some(name) || error.message().ends_with(&format!(": {columns}"))
    }
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Postgres: class 08 connection, 53 resources, 57 operator intervention
            // (shutdown, statement timeout), 40 serialization and deadlock.
            // SQLite: 5 and 6 busy or locked (extended codes in the high bits).
            // 55P03 is the lock timeout, 25P03 a transaction that stood still too long.
            (matches!(code.get(..2), Some("08" | "53" | "57" | "40"))
                || matches!(&*code, "55P03" | "25P03"))
                && code.len() == 5
                || code
                    .parse::<u32>()
                    .is_ok_and(|code| matches!(code & 0xff, 5 | 6))
                    && code.len() != 5
        }),
        _ => false,
    }
}
