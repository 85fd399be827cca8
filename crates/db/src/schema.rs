//! The part of a database that belongs to one service.

use sqlx::migrate::{Migration, Migrator};

/// The service that uses a database, and its migrations for each backend.
///
/// `Schema { service: "mailer", sqlite: sqlx::migrate!("migrations/sqlite"), postgres: … }`
/// embeds the files at compile time.
#[derive(Debug)]
pub struct Schema {
    /// Name of the service. Sessions carry it as `application_name`. It separates advisory locks
    /// from those of other services on the same server.
    pub service: &'static str,
    /// Migrations of SQLite.
    pub sqlite: Migrator,
    /// Migrations of Postgres.
    pub postgres: Migrator,
}

impl Schema {
    /// The schema of a service without tables.
    #[must_use]
    pub const fn without_migrations(service: &'static str) -> Self {
        Self {
            service,
            sqlite: Migrator::DEFAULT,
            postgres: Migrator::DEFAULT,
        }
    }
}

/// Copies a migrator and makes it ignore versions in the history that this binary lacks. An older
/// binary can then serve on a newer schema during a rollout.
pub(crate) fn ignoring_unknown_versions(embedded: &Migrator) -> Migrator {
    let migrations: Vec<Migration> = embedded.iter().cloned().collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_ignore_missing(true);
    migrator
}
