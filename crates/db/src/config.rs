//! The database section of the configuration.

use std::str::FromStr as _;
use std::time::Duration;

use settings::check::{at_least_one, positive};
use settings::{Profile, RawValue, Reader, Setting, settings};

use crate::pooler::Pooler;

/// The URL of the database. Its scheme selects the backend.
#[derive(Clone)]
pub struct DatabaseUrl(String);

/// The two backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Embedded. Used by one process.
    Sqlite,
    /// A server. Used by many processes.
    Postgres,
}

impl DatabaseUrl {
    /// The whole URL, credentials included.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The backend that the scheme names.
    #[must_use]
    pub fn backend(&self) -> Backend {
        if self.0.starts_with("sqlite:") {
            Backend::Sqlite
        } else {
            Backend::Postgres
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Setting for DatabaseUrl {
    const KIND: &'static str = "a database URL: sqlite://path or postgres://user@host/database";
    const SECRET: bool = true;

    fn parse(raw: &RawValue) -> Result<Self, String> {
        let url = raw.text.trim();
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        match scheme {
            Some("sqlite" | "postgres" | "postgresql") => {}
            _ => return Err(format!("is not {}", Self::KIND)),
        }
        check_url(url)
            .map(|()| Self(url.to_owned()))
            // The driver's message may repeat parts of the URL, and so a password.
            .map_err(|_| format!("is not {}", Self::KIND))
    }

    /// Renders an SQLite URL as it is, because it has no credentials. A server's URL shows its
    /// scheme only.
    fn render(raw: &RawValue) -> String {
        if raw.text.starts_with("sqlite:") {
            raw.text.clone()
        } else {
            "postgres://[redacted]".to_owned()
        }
    }
}

/// Checks that the driver can read the URL.
///
/// # Errors
/// The error of the driver.
fn check_url(url: &str) -> Result<(), sqlx::Error> {
    #[cfg(feature = "sqlite")]
    if url.starts_with("sqlite:") {
        return sqlx::sqlite::SqliteConnectOptions::from_str(url).map(|_| ());
    }
    #[cfg(feature = "postgres")]
    if !url.starts_with("sqlite:") {
        return sqlx::postgres::PgConnectOptions::from_str(url).map(|_| ());
    }
    Err(sqlx::Error::Configuration(
        "this binary was built without that backend".into(),
    ))
}

settings! {
    /// The database and its connection pool.
    pub struct Config("database", validate) {
        /// URL of the database: `sqlite://…` (the file and its folder are created) or
        /// `postgres://…`.
        pub url("url"): DatabaseUrl = DevelopmentOnly("sqlite://data/{service}.db");
        /// Kind of server at the URL. `none` is the database server itself. `session` and
        /// `transaction` are the modes of a pooler such as PgBouncer (docs/poolers.md).
        pub pooler("pooler"): Pooler = Same("none");
        /// Limit of open connections.
        pub max_connections("max_connections"): u32 = Same("10"), check at_least_one;
        /// Number of connections that are kept open.
        pub min_connections("min_connections"): u32 = Same("1");
        /// Time after which idle connections beyond the minimum are closed.
        pub idle_timeout("idle_timeout"): Duration = Same("10m"), check positive;
        /// Age at which a connection is replaced.
        pub max_lifetime("max_lifetime"): Duration = Same("30m"), check positive;
        /// Limit of the wait for a free connection. Beyond it the answer is 503
        /// `DATABASE_UNAVAILABLE`.
        pub acquire_timeout("acquire_timeout"): Duration = Same("3s"), check positive;
        /// Limit of one statement. On SQLite the client enforces it.
        pub statement_timeout("statement_timeout"): Duration = Same("5s"), check positive;
        /// Migrates when the process starts. If it is off, run the `migrate` subcommand first.
        pub migrate_on_start("migrate_on_start"): bool = PerProfile { development: "true", production: "false" };
        /// Allows SQLite in production.
        pub allow_sqlite("allow_sqlite"): bool = Same("false");
    }
}

impl Config {
    /// Checks the rules of this section that span keys or depend on the profile.
    fn validate(&self, reader: &mut Reader) {
        if reader.profile() == Profile::Production
            && self.url.backend() == Backend::Sqlite
            && !self.allow_sqlite
        {
            reader.refuse(
                "database.url",
                "is SQLite, which production does not allow; use Postgres or set database.allow_sqlite",
            );
        }
        if self.pooler != Pooler::None && self.url.backend() == Backend::Sqlite {
            reader.refuse("database.pooler", "must be none for SQLite");
        }
        if self.pooler == Pooler::Transaction && self.migrate_on_start {
            reader.refuse(
                "database.migrate_on_start",
                "is not possible through a pooler in transaction mode; set it to false and run the migrate subcommand with the URL of the server itself",
            );
        }
        if self.min_connections > self.max_connections {
            reader.refuse(
                "database.min_connections",
                "must not be greater than database.max_connections",
            );
        }
    }
}
