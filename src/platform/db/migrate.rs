//! Migrations: embedded, forward only, one history for template and application.
//!
//! Template migrations have versions below 10000, applications use timestamps.
//! A binary ignores versions that it does not know, so that an older one serves
//! on a newer schema during a rollout.

use std::sync::LazyLock;

use sqlx::migrate::Migrator;

use super::{Database, DbError};

#[cfg(feature = "sqlite")]
static SQLITE: LazyLock<Migrator> = LazyLock::new(|| tolerant(sqlx::migrate!("migrations/sqlite")));
#[cfg(feature = "postgres")]
static POSTGRES: LazyLock<Migrator> =
    LazyLock::new(|| tolerant(sqlx::migrate!("migrations/postgres")));

fn tolerant(mut migrator: Migrator) -> Migrator {
    migrator.set_ignore_missing(true);
    migrator
}

/// Applies what is missing. Several processes may do this at once.
///
/// # Errors
/// When a migration fails, or one that was applied has changed since.
pub async fn run(database: &Database, url: &super::DatabaseUrl) -> anyhow::Result<()> {
    match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(_) => sqlite(url).await,
        #[cfg(feature = "postgres")]
        Database::Postgres(_) => postgres(url).await,
    }
}

/// A connection of its own, without a statement timeout. SQLite's driver has no
/// migration lock, so a lock file stands beside the database.
#[cfg(feature = "sqlite")]
async fn sqlite(url: &super::DatabaseUrl) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use sqlx::ConnectOptions as _;
    use std::str::FromStr as _;
    let options = sqlx::sqlite::SqliteConnectOptions::from_str(url.expose())?
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(std::time::Duration::from_mins(1));
    let path = options.get_filename().with_extension("migrate.lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::create(&path)
            .with_context(|| format!("cannot make the lock file {}", path.display()))?;
        file.lock().context("cannot lock the migrations")?;
        anyhow::Ok(file)
    })
    .await??;
    let mut connection = options.connect().await?;
    SQLITE.run(&mut connection).await?;
    // Released here, when the history is written.
    drop(lock);
    Ok(())
}

/// A connection of its own, without a statement timeout; sqlx takes an advisory lock.
#[cfg(feature = "postgres")]
async fn postgres(url: &super::DatabaseUrl) -> anyhow::Result<()> {
    use sqlx::ConnectOptions as _;
    use std::str::FromStr as _;
    let options = sqlx::postgres::PgConnectOptions::from_str(url.expose())?;
    let mut connection = options.connect().await?;
    POSTGRES.run(&mut connection).await?;
    Ok(())
}

/// The migrations that this binary knows, in their order: version and name.
#[must_use]
pub fn known(database: &Database) -> Vec<String> {
    let migrator = match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(_) => &*SQLITE,
        #[cfg(feature = "postgres")]
        Database::Postgres(_) => &*POSTGRES,
    };
    let shown = |migration: &sqlx::migrate::Migration| {
        format!("{} {}", migration.version, migration.description)
    };
    migrator.iter().map(shown).collect()
}

/// Whether every migration that this binary knows is applied.
///
/// # Errors
/// When the history cannot be read.
pub async fn is_current(database: &Database) -> Result<bool, DbError> {
    let (known, applied) = match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(db) => (&*SQLITE, applied_sqlite(&mut *db.acquire().await?).await?),
        #[cfg(feature = "postgres")]
        Database::Postgres(db) => (
            &*POSTGRES,
            applied_postgres(&mut *db.acquire().await?).await?,
        ),
    };
    Ok(known
        .iter()
        .all(|migration| applied.contains(&migration.version)))
}

#[cfg(feature = "sqlite")]
async fn applied_sqlite(connection: &mut sqlx::SqliteConnection) -> Result<Vec<i64>, sqlx::Error> {
    let table = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(table)
        .fetch_one(&mut *connection)
        .await?
        == 0
    {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await
}

#[cfg(feature = "postgres")]
async fn applied_postgres(connection: &mut sqlx::PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(table)
        .fetch_one(&mut *connection)
        .await?
    {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await
}
