//! The process: what is started in which order, and how it ends.

mod admin;
mod outside;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::config::Config;
use crate::platform::clock::{SharedClock, SystemClock};
use crate::platform::db::{Database, DbMetrics, migrate as migrations};
use crate::platform::health::{Health, HealthMetrics};
use crate::platform::http::listener::{self, Serving};
use crate::platform::http::middleware;
use crate::platform::http::{Patience, Tls};
use crate::platform::lifecycle::{self, Lifecycle, LifecycleMetrics, State};
use crate::platform::observe::{Observer, RouteTable};
use crate::platform::protect::{Limits, RateLimitMetrics};
use crate::platform::telemetry::{Telemetry, logs};
use crate::platform::workers::{Runner, WorkerMetrics};
use admin::Requests;

/// Time for the database's connections to close, and for the last scrape to leave.
const CLOSE: Duration = Duration::from_secs(2);
/// Time for the very last log lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves until a signal or a failure ends it; returns the exit code. `announce`
/// hears the public and the admin address once all of it stands.
///
/// # Errors
/// When the process cannot start.
pub async fn run(config: &Config, announce: impl Fn(SocketAddr, SocketAddr)) -> anyhow::Result<u8> {
    let telemetry = Telemetry::start(&config.telemetry, &config.otel)?;
    let admin = AdminListener::default();
    let outcome = run_observed(config, &telemetry, announce, &admin).await;
    if let Err(error) = &outcome {
        tracing::error!(
            error = format!("{error:#}"),
            "the process ends with a failure"
        );
    }
    let flush = config.telemetry.flush_timeout;
    lifecycle::step("telemetry", flush * 2, telemetry.flush()).await;
    // Scrapeable until here: what became of the last spans can be read.
    lifecycle::step("admin listener", CLOSE, admin.close()).await;
    logs::flush(LAST_WORDS);
    outcome
}

/// The listener that comes first and leaves last.
#[derive(Default)]
struct AdminListener {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl AdminListener {
    fn serve(&self, lifecycle: &Lifecycle, serving: impl Future<Output = ()> + Send + 'static) {
        let task = lifecycle.accompany("admin listener", self.stop.clone(), serving);
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    async fn close(&self) {
        self.stop.cancel();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // Its panic was reported where it is supervised.
            let _joined = task.await;
        }
    }
}

async fn run_observed(
    config: &Config,
    telemetry: &Telemetry,
    announce: impl Fn(SocketAddr, SocketAddr),
    admin_listener: &AdminListener,
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
        draining: lifecycle.draining(),
        stop,
        kill,
        open: requests.metrics.connections.with_label_values(&[name]),
        refused: requests.metrics.shed.with_label_values(&["connections"]),
    };
    let stop = &admin_listener.stop;
    let admin_serving = serving("admin", stop.clone(), stop.clone());
    admin_listener.serve(
        &lifecycle,
        listener::serve(admin, admin_routes, admin_serving),
    );

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

    lifecycle.run_down(&config.lifecycle).await;
    lifecycle::step("database", CLOSE, database.close()).await;
    Ok(match (lifecycle.cuts(), lifecycle.has_failed()) {
        (0, false) => 0,
        (0, true) => 1,
        _ => lifecycle::EXIT_FORCED,
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
    let runner = Runner::new(
        lifecycle,
        health,
        database,
        WorkerMetrics::register(registry)?,
    );
    let parts = app::Parts {
        auth: &config.auth,
        ledger: &config.ledger,
        workers: &config.workers,
        stores: &stores,
        registry,
        clock,
        lifecycle,
        runner: &runner,
        limits: &limits,
        faults: requests.faults(),
    };
    let router = app::build(&parts)?;
    // All that follows depends on others.
    health.initialised();
    outside::watch_database(health, database);
    outside::reach(config, database).await?;
    if config.database.migrate_on_start {
        migrations::run(database, &config.database.url)
            .await
            .context("migrations failed")?;
    }
    outside::watch_migrations(health, database);
    outside::first_administrator(config, database, &*stores.identity, &**clock).await?;
    let table = RouteTable::new(
        requests.metrics.clone(),
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
        lifecycle: lifecycle.clone(),
    };
    let router =
        middleware::apply(router.merge(documentation()), parts).merge(health.terse_routes());
    limits.start(lifecycle).await;
    outside::watch_limits(health, &limits);
    let public = listener::bind("public", config.http.addr).await?;
    Ok((router, public))
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
