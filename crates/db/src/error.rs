//! The two kinds of database failures.

use request::Problem;
use request::problem::codes;
use sqlx::error::ErrorKind;

use crate::fault::Fault;
use crate::query;

/// The reason why a query has no result.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The session or the server cannot serve the query now. Another try may succeed.
    #[error("database unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Any other error. It is a defect.
    #[error("database error: {0}")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let fault = Fault::of(&error);
        // The query still holds the session that failed.
        query::record_fault(fault);
        let error = if fault.is_unavailable() {
            Self::Unavailable(error)
        } else {
            Self::Failed(error)
        };
        if !query::is_retried_after(fault) {
            error.mark_span();
        }
        error
    }
}

impl DbError {
    /// Marks the client span of the query as failed. The attributes follow the OpenTelemetry
    /// conventions and contain no values. A violated constraint is a rejection and leaves the span
    /// unmarked.
    fn mark_span(&self) {
        let (Self::Unavailable(cause) | Self::Failed(cause)) = self;
        let database = match cause {
            sqlx::Error::Database(error) => Some(error),
            _ => None,
        };
        if database.is_some_and(|error| !matches!(error.kind(), ErrorKind::Other)) {
            return;
        }
        let code = database.and_then(|error| error.code());
        let kind = match cause {
            sqlx::Error::PoolTimedOut => "pool_timeout",
            sqlx::Error::PoolClosed => "pool_closed",
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => "connection",
            _ => "_OTHER",
        };
        let span = tracing::Span::current();
        span.record("otel.status_code", "ERROR");
        span.record("error.type", code.as_deref().unwrap_or(kind));
        if let Some(code) = &code {
            span.record("db.response.status_code", &**code);
        }
    }

    /// Returns true if the error may disappear while the process waits at the start.
    pub(crate) fn is_transient(&self) -> bool {
        let (Self::Unavailable(error) | Self::Failed(error)) = self;
        // A server with another protocol does not change while the process waits.
        Fault::of(error).is_transient() && !matches!(error, sqlx::Error::Protocol(_))
    }

    /// The innermost cause, once. The driver repeats it at every level.
    #[must_use]
    pub fn cause(&self) -> String {
        let (Self::Unavailable(error) | Self::Failed(error)) = self;
        match error {
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::Tls(error) => format!("TLS: {error}"),
            sqlx::Error::Database(error) => match error.code() {
                Some(code) => format!("{} ({code})", error.message()),
                None => error.message().to_owned(),
            },
            other => other.to_string(),
        }
    }

    /// Returns true if a write violated this table constraint. Postgres reports its name, SQLite
    /// its columns (`users.email`).
    #[must_use]
    pub fn violates(&self, name: &str, columns: &str) -> bool {
        let Self::Failed(sqlx::Error::Database(error)) = self else {
            return false;
        };
        error.constraint() == Some(name) || error.message().ends_with(&format!(": {columns}"))
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) => Self::new(
                codes::DATABASE_UNAVAILABLE,
                "The database cannot do this now; try again.",
            )
            .retry_after(1)
            .because(error),
            DbError::Failed(_) => Self::internal(error),
        }
    }
}
