//! The process: what is started in which order, and how it ends.

mod admin;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::config::Config;
use crate::identity::bootstrap::{self, BootstrapError};
use crate::identity::store::IdentityStore;
use crate::platform::clock::{Clock, SharedClock, SystemClock};
use crate::platform::db::{Database, DbError, DbMetrics, migrate as migrations};
use crate::platform::health::{Health, HealthMetrics, Schedule};
use crate::platform::http::listener::{self, Serving};
use crate::platform::http::middleware;
use crate::platform::http::{Patience, Tls};
use crate::platform::lifecycle::{self, Lifecycle, LifecycleMetrics, State};
use crate::platform::observe::{Observer, RouteTable};
use crate::platform::protect::{Limits, RateLimitMetrics};
use crate::platform::telemetry::Telemetry;
use admin::Requests;

/// Serves until a signal or a failure ends it; returns the exit code. `announce`
/// hears the public and the admin address once all of it stands.
///
/// # Errors
/// When the process cannot start.
pub async fn run(config: &Config, announce: impl Fn(SocketAddr, SocketAddr)) -> anyhow::Result<u8> {
    let telemetry = Telemetry::start(&config.telemetry, &config.otel)?;
    let outcome = run_observed(config, &telemetry, announce).await;
    if let Err(error) = &outcome {
        tracing::error!(
            error = format!("{error:#}"),
            "the process ends with a failure"
        );
    }
    telemetry.flush().await;
    outcome
}

async fn run_observed(
    config: &Config,
    telemetry: &Telemetry,
    announce: impl Fn(SocketAddr, SocketAddr),
) -> anyhow::Result<u8> {
    let registry = &telemetry.registry;
    let clock: SharedClock = Arc::new(SystemClock);
    let lifecycle = Lifecycle::new(LifecycleMetrics::register(registry)?);
    lifecycle::watch_signals(&lifecycle)?;
    let requests = Requests::new(config, registry, &clock)?;
    let db_metrics = Arc::new(DbMetrics::register(registry)?);
    let database = Database::new(&config.database, db_metrics)?;
    let health = Health::new(
        lifecycle.clone(),
        Arc::clone(&clock),
        HealthMetrics::register(registry)?,
    );

    // The admin listener comes first and leaves last: probes and scrapes have an
    // answer from the first moment to the end of the drain.
    let admin_stop = CancellationToken::new();
    let admin = listener::bind("admin", config.admin.addr).await?;
    let admin_address = admin.local_addr()?;
    let admin_routes =
        admin::shown(config, telemetry, &lifecycle, &database, &clock, &requests).routes(&health);
    let serving = |name: &'static str, stop: CancellationToken, kill: CancellationToken| Serving {
        name,
        tls: None,
        patience: Patience {
            header: config.http.header_timeout,
            idle: config.http.idle_timeout,
        },
        max_connections: config.http.max_connections,
        stop,
        kill,
        open: requests.metrics.connections.with_label_values(&[name]),
        refused: requests.metrics.shed.with_label_values(&["connections"]),
    };
    let admin_serving = serving("admin", admin_stop.clone(), admin_stop.clone());
    // Outlives the tracked tasks, and is awaited at the very end.
    #[allow(clippy::disallowed_methods)]
    let admin_task = tokio::spawn(listener::serve(admin, admin_routes, admin_serving));

    let started = start(
        config, telemetry, &lifecycle, &health, &database, &clock, &requests,
    );
    let result = tokio::select! {
        // A signal during the start ends the start.
        () = lifecycle.draining().cancelled_owned() => Ok(None),
        started = started => started.map(Some),
    };
    match result {
        Ok(Some((router, public))) => {
            let address = public.local_addr()?;
            let tls = Tls::new(&config.http)?;
            if let Some(tls) = &tls {
                tls.watch(&lifecycle);
            }
            let public_serving = Serving {
                tls,
                ..serving("public", lifecycle.soft(), lifecycle.hard())
            };
            lifecycle.spawn(
                "public listener",
                listener::serve(public, router, public_serving),
            );
            lifecycle.enter(State::Ready);
            announce(address, admin_address);
        }
        Ok(None) => {}
        Err(error) => {
            lifecycle.fail("the start failed");
            tracing::error!(error = format!("{error:#}"), "the start failed");
        }
    }

    let cut = lifecycle.run_down(&config.lifecycle).await;
    database.close().await;
    admin_stop.cancel();
    let _joined = admin_task.await;
    Ok(match (cut, lifecycle.has_failed()) {
        (true, _) => u8::try_from(lifecycle::EXIT_FORCED).unwrap_or(u8::MAX),
        (false, true) => 1,
        (false, false) => 0,
    })
}

/// From the database to the public socket.
async fn start(
    config: &Config,
    telemetry: &Telemetry,
    lifecycle: &Lifecycle,
    health: &Health,
    database: &Database,
    clock: &SharedClock,
    requests: &Requests,
) -> anyhow::Result<(Router, TcpListener)> {
    let registry = &telemetry.registry;
    let limits = Limits::new(&config.rate_limit, &RateLimitMetrics::register(registry)?)?;
    let stores = app::Stores::new(database, clock);
    let parts = app::Parts {
        auth: &config.auth,
        ledger: &config.ledger,
        workers: &config.workers,
        stores: &stores,
        registry,
        clock,
        lifecycle,
        limits: &limits,
        faults: requests.faults(),
    };
    let router = app::build(&parts)?;
    reach(config, database).await?;
    if config.database.migrate_on_start {
        migrations::run(database, &config.database.url)
            .await
            .context("migrations failed")?;
    }
    watch_database(health, database);
    first_administrator(config, database, &*stores.identity, &**clock).await?;
    let table = RouteTable::new(
        requests.metrics.clone(),
        telemetry.exemplars.clone(),
        requests.operations.clone(),
        app::problem_codes(),
    );
    let parts = middleware::Parts {
        config: &config.http,
        observer: Arc::new(Observer::new(
            table,
            telemetry.logs.clone(),
            telemetry.traces.clone(),
        )),
        limits: &limits,
        draining: lifecycle.draining(),
    };
    let router =
        middleware::apply(router.merge(documentation()), parts).merge(health.terse_routes());
    limits.start(lifecycle).await;
    watch_limits(health, &limits);
    let public = listener::bind("public", config.http.addr).await?;
    Ok((router, public))
}

/// Waits for the database with backoff. What waiting cannot mend (credentials, a
/// database that does not exist) ends the start.
async fn reach(config: &Config, database: &Database) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(100);
    loop {
        let attempt = tokio::time::timeout(config.database.acquire_timeout, database.ping()).await;
        match attempt {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => match DbError::from(error) {
                DbError::Unavailable(error) => {
                    tracing::warn!(%error, "the database is not reachable; trying again");
                }
                error @ DbError::Failed(_) => {
                    return Err(error).context("the database refuses this service");
                }
            },
            Err(_) => tracing::warn!("the database does not answer; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Makes the first administrator, when one is configured. Where migrations run
/// apart, it waits for them: the process is not ready before they ran anyway.
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
            Ok(true) => match bootstrap::bootstrap(&config.auth, store, clock).await {
                Err(BootstrapError::Database(error @ DbError::Unavailable(_))) => {
                    tracing::warn!(%error, "the first administrator cannot be made yet");
                }
                made => return made.context("the first administrator cannot be made"),
            },
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
    health.watch(
        "database",
        "check database",
        true,
        Schedule::default(),
        Arc::new(move || {
            let database = reachable.clone();
            Box::pin(async move {
                database
                    .ping()
                    .await
                    .map_err(|_| "the database does not answer")
            })
        }),
    );
    let migrated = database.clone();
    health.watch(
        "migrations",
        "check migrations",
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

/// Without the shared backend the local limits hold: worth knowing, no reason to
/// take the process out of service.
fn watch_limits(health: &Health, limits: &Limits) {
    if let Some(is_up) = limits.backend() {
        let probe = move || {
            let answer = is_up().then_some(()).ok_or("the local limiter decides");
            std::future::ready(answer).boxed()
        };
        let schedule = Schedule::default();
        health.watch("redis", "check redis", false, schedule, Arc::new(probe));
    }
}

/// Swagger UI and the document that it shows, from the binary.
fn documentation() -> Router {
    utoipa_swagger_ui::SwaggerUi::new("/docs")
        .url("/openapi.json", app::openapi())
        .into()
}

/// Applies the migrations that are missing.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let database = offline(config)?;
    migrations::run(&database, &config.database.url).await?;
    database.close().await;
    Ok(())
}

/// Reaches every dependency; one line per failure.
pub async fn check(config: &Config) -> Vec<String> {
    let database = match offline(config) {
        Ok(database) => database,
        Err(error) => return vec![format!("database: {error:#}")],
    };
    let mut failures = Vec::new();
    match database.ping().await {
        Err(error) => failures.push(format!("database: {error}")),
        Ok(()) => match migrations::is_current(&database).await {
            Ok(true) => {}
            Ok(false) => {
                failures
                    .push("migrations: some are missing; run the migrate subcommand".to_owned());
            }
            Err(error) => failures.push(format!("migrations: {error}")),
        },
    }
    database.close().await;
    if let Err(error) = Limits::check(&config.rate_limit).await {
        failures.push(format!("redis: {error:#}"));
    }
    failures
}

/// A database without anybody to scrape its metrics.
fn offline(config: &Config) -> anyhow::Result<Database> {
    let metrics = DbMetrics::register(&prometheus::Registry::new())?;
    Database::new(&config.database, Arc::new(metrics))
}

/// Where this configuration's service answers for its own liveness.
#[must_use]
pub fn liveness_url(config: &Config) -> String {
    let mut address = config.admin.addr;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}/health/live")
}

/// Asks a running service; success is a 200.
///
/// # Errors
/// When there is no answer in time, or another one.
pub async fn healthcheck(url: &str, timeout: Duration) -> anyhow::Result<()> {
    let status = tokio::time::timeout(timeout, listener::get_status(url))
        .await
        .with_context(|| format!("no answer from {url} within {timeout:?}"))??;
    anyhow::ensure!(status == http::StatusCode::OK, "{url} answered {status}");
    Ok(())
}
