//! The dependencies of the process, at its start and afterwards.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use db::{Database, DbError, ProbeError, ReachError, migrate as migrations};
use futures_util::FutureExt as _;
use identity::bootstrap::{self, BootstrapError};
use identity::store::IdentityStore;
use lifecycle::health::{Health, Schedule};
use settings::backoff::{Backoff, jittered};
use settings::clock::Clock;

use crate::SERVICE;
use crate::config::Config;
use crate::platform::Platform;

/// Waits for the database, applies the missing migrations when the process is to do that, and
/// creates the first administrator. Readiness checks watch the database from here on.
pub(super) async fn prepare_database(
    platform: &Platform<'_>,
    users: &dyn IdentityStore,
) -> anyhow::Result<()> {
    let (config, database) = (platform.config, &platform.database);
    watch_database(&platform.health, database);
    reach(config, database).await?;
    if config.database.migrate_on_start {
        migrate(config, database)
            .await
            .context("migrations failed")?;
    }
    watch_migrations(&platform.health, database);
    first_administrator(config, database, users, &*platform.clock).await
}

/// Starts the rate limits, and watches their shared backend. Without it the local limits apply.
/// Operators should see that, but the process stays in service.
pub(super) async fn start_rate_limits(platform: &Platform<'_>) {
    platform.rate_limits.start(&platform.lifecycle).await;
    if let Some(is_up) = platform.rate_limits.backend() {
        let probe = move || {
            let answer = is_up().then_some(()).ok_or("the local limiter decides");
            std::future::ready(answer).boxed()
        };
        let schedule = Schedule::default();
        platform
            .health
            .add_check("redis", false, schedule, Arc::new(probe));
    }
}

/// Waits for the database with backoff. Errors that waiting cannot fix end the start, for example
/// wrong credentials or a missing database.
async fn reach(config: &Config, database: &Database) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let bound = config.database.acquire_timeout;
        let reached = async {
            database.reach(bound).await?;
            database.inspect_pooler(bound).await
        };
        match reached.await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the database is not reachable; trying again");
            }
            Err(error) => return Err(error).context("the database refuses this service"),
        }
        // Replicas lose the database together.
        tokio::time::sleep(jittered(backoff.next_pause(), 0.25)).await;
    }
}

/// Applies the missing migrations. If the server stops answering or cannot be written meanwhile, it
/// waits and tries again.
async fn migrate(config: &Config, database: &Database) -> anyhow::Result<()> {
    let bound = config.database.acquire_timeout;
    let tell = |line: &str| tracing::warn!("{line}");
    loop {
        match migrations::run(database, &config.database.url, bound, tell).await {
            Err(error)
                if error
                    .downcast_ref::<ReachError>()
                    .is_some_and(ReachError::is_transient) =>
            {
                tracing::warn!(%error, "the migrations wait for the database");
            }
            Ok(applied) => {
                if !applied.is_empty() {
                    tracing::info!(migrations = applied.join(", "), "migrations are applied");
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // The next try may fail immediately.
        tokio::time::sleep(Duration::from_secs(1)).await;
        reach(config, database).await?;
    }
}

/// Creates the first administrator, if one is configured. If migrations run separately, it waits
/// for them, because the process is not ready before they have run.
async fn first_administrator(
    config: &Config,
    database: &Database,
    store: &dyn IdentityStore,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    if !bootstrap::is_configured(&config.auth) {
        return Ok(());
    }
    loop {
        match migrations::is_current(database).await {
            Ok(true) => {
                match bootstrap::bootstrap(&config.auth, store, clock, SERVICE.name).await {
                    Err(BootstrapError::Database(error @ DbError::Unavailable(_))) => {
                        tracing::warn!(%error, "the first administrator cannot be made yet");
                    }
                    made => return made.context("the first administrator cannot be made"),
                }
            }
            Ok(false) => tracing::warn!("the first administrator waits for the migrations"),
            Err(error) => {
                tracing::warn!(%error, "the first administrator waits for the database");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn watch_database(health: &Health, database: &Database) {
    let reachable = database.clone();
    health.add_check(
        "database",
        true,
        Schedule::default(),
        Arc::new(move || {
            let database = reachable.clone();
            Box::pin(async move {
                database.probe().await.map_err(|error| match error {
                    ProbeError::Database(_) => "the database does not answer",
                    ProbeError::Missing => "the database's file is missing",
                    ProbeError::Corrupt => "the database is damaged",
                    ProbeError::ReadOnly => "the database cannot be written",
                })
            })
        }),
    );
}

fn watch_migrations(health: &Health, database: &Database) {
    let migrated = database.clone();
    health.add_check(
        "migrations",
        true,
        Schedule {
            interval: Duration::from_secs(5),
            failures: 3,
            ..Schedule::default()
        },
        Arc::new(move || {
            let database = migrated.clone();
            Box::pin(async move {
                match migrations::is_current(&database).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("migrations are missing; run the migrate subcommand"),
                    Err(_) => Err("the history of migrations cannot be read"),
                }
            })
        }),
    );
}
