//! Migrations. They are embedded and forward only, with one history for template and application.
//!
//! Template migrations have versions below 10000, applications use timestamps. A binary ignores
//! versions that it does not contain, so that an older binary serves on a newer schema during a
//! rollout.

use std::time::Duration;

use sqlx::migrate::Migrator;

use crate::config::DatabaseUrl;
#[cfg(feature = "postgres")]
use crate::connect;
use crate::database::Database;
use crate::error::DbError;
#[cfg(feature = "postgres")]
use crate::pooler::Pooler;
#[cfg(feature = "postgres")]
use crate::reach::ReachError;
use crate::schema::ignoring_unknown_versions;

/// Interval of the messages about a lock that another migrator holds, and of the checks that the
/// server still answers.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Applies the missing migrations and returns them. Several processes may do this at once. The
/// others wait for the lock of the first without a limit and report that through `report`. The wait
/// ends if the server stops answering.
///
/// # Errors
/// When a migration fails, an applied migration has changed since, or the server does not answer a
/// step within `bound`.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
pub async fn run(
    database: &Database,
    url: &DatabaseUrl,
    bound: Duration,
    report: fn(&str),
) -> anyhow::Result<Vec<String>> {
    match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(_) => {
            let work = sqlite(&database.schema().sqlite, url);
            report_while_waiting(
                work,
                "waiting for another migrator or a long migration",
                report,
            )
            .await
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(db) => {
            anyhow::ensure!(
                db.server.pooler != Pooler::Transaction,
                "{}: database.pooler is transaction, and the lock of migrations belongs to a session: give migrate the URL of the server itself, and database.pooler=none",
                database.place()
            );
            database.inspect_pooler(bound).await?;
            postgres(database, url, bound, report).await
        }
    }
}

/// Waits for `work` and reports at intervals that it still waits.
#[cfg(feature = "sqlite")]
async fn report_while_waiting<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    message: &str,
    report: fn(&str),
) -> anyhow::Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(REPORT_INTERVAL, &mut work).await {
            Ok(done) => return done,
            Err(_) => report(message),
        }
    }
}

/// Migrates on a separate connection without a statement timeout. SQLite's driver has no migration
/// lock, so a lock file beside the database serves as one.
#[cfg(feature = "sqlite")]
async fn sqlite(embedded: &Migrator, url: &DatabaseUrl) -> anyhow::Result<Vec<String>> {
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
            .with_context(|| format!("cannot create the lock file {}", path.display()))?;
        file.lock().context("cannot lock the migrations")?;
        anyhow::Ok(file)
    })
    .await??;
    let mut connection = options.connect().await?;
    let missing = missing(embedded, &applied_sqlite(&mut connection).await?);
    ignoring_unknown_versions(embedded)
        .run(&mut connection)
        .await?;
    // Released when the history is written.
    drop(lock);
    Ok(missing)
}

/// Migrates on a separate connection without a statement timeout. sqlx takes an advisory lock. The
/// time to connect is limited. Afterwards a second connection checks at intervals that the server
/// still answers, because waiting for a lock or a long migration looks like silence.
#[cfg(feature = "postgres")]
async fn postgres(
    database: &Database,
    url: &DatabaseUrl,
    bound: Duration,
    report: fn(&str),
) -> anyhow::Result<Vec<String>> {
    use sqlx::{ConnectOptions as _, Executor as _};
    let schema = database.schema();
    let options = connect::postgres_options(schema.service, url.expose())?;
    let connecting = options.connect();
    let mut connection = database.step(bound, "connecting", connecting).await?;
    // The role or the database may have limits that are meant for requests.
    let limits = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";
    let lifted = connection.execute(sqlx::raw_sql(limits));
    database.step(bound, "lifting limits", lifted).await?;
    // Another migrator may apply some migrations first, while this one waits for the lock.
    let mut work = std::pin::pin!(async {
        let applied = applied_postgres(&mut connection).await?;
        ignoring_unknown_versions(&schema.postgres)
            .run(&mut connection)
            .await?;
        Ok(missing(&schema.postgres, &applied))
    });
    loop {
        match tokio::time::timeout(REPORT_INTERVAL, &mut work).await {
            Ok(Ok(missing)) => return Ok(missing),
            Ok(Err(error)) => return Err(database.migration_failed(error)),
            Err(_) => match database.reach(bound).await {
                Err(silent @ ReachError::Silent { .. }) => return Err(silent.into()),
                _ => report("waiting for another migrator's lock or a long migration"),
            },
        }
    }
}

/// The migrations of this binary in their order: version and name.
#[must_use]
pub fn known(database: &Database) -> Vec<String> {
    let migrator = match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(db) => &db.schema.sqlite,
        #[cfg(feature = "postgres")]
        Database::Postgres(db) => &db.schema.postgres,
    };
    missing(migrator, &[])
}

/// Version and name of the migrations that are not in the history.
fn missing(migrator: &Migrator, applied: &[i64]) -> Vec<String> {
    migrator
        .iter()
        .filter(|migration| !applied.contains(&migration.version))
        .map(|migration| format!("{} {}", migration.version, migration.description))
        .collect()
}

/// Returns true if every migration of this binary is applied.
///
/// # Errors
/// When the history cannot be read.
pub async fn is_current(database: &Database) -> Result<bool, DbError> {
    Ok(pending(database).await?.is_empty())
}

/// The migrations of this binary that are not applied: version and name.
///
/// # Errors
/// When the history cannot be read.
pub async fn pending(database: &Database) -> Result<Vec<String>, DbError> {
    let (known, applied) = match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(db) => (
            &db.schema.sqlite,
            applied_sqlite(&mut *db.acquire().await?).await?,
        ),
        #[cfg(feature = "postgres")]
        Database::Postgres(db) => (
            &db.schema.postgres,
            applied_postgres(&mut *db.acquire().await?).await?,
        ),
    };
    Ok(missing(known, &applied))
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
