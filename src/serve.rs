//! The process: what is started in which order, and how it ends.

mod admin;
mod descriptors;
mod once;
mod outside;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::SCHEMA;
use crate::app;
use crate::config::Config;
use crate::platform::http::admission::Admission;
use crate::platform::http::listener::{self, Reserved, Serve, Serving};
use crate::platform::http::middleware;
use crate::platform::http::probes::{self, Detail};
use crate::platform::http::{Patience, Tls, TlsMetrics};
use crate::platform::observe::{Observer, RouteTable};
use crate::platform::protect::{Limits, RateLimitMetrics};
use crate::platform::workers::{Runner, WorkerMetrics};
pub use once::{Findings, check, healthcheck, liveness_url, migrate, promote};

use admin::Requests;
use db::{Database, DbMetrics};
use lifecycle::health::{Health, HealthMetrics};
use lifecycle::{self, Lifecycle, LifecycleMetrics, State};
use request::RequestContext;
use settings::Profile;
use settings::clock::{SharedClock, SystemClock};
use telemetry::{Telemetry, logs};

// With what a cut takes, and the end of the runtime, these sum up to less than the five
// seconds that the chart adds to drain delay, grace period and flush timeout.

/// Time for the database's connections to close.
const CLOSE_DATABASE: Duration = Duration::from_secs(2);
/// Time for the last scrapes to be answered.
const LAST_SCRAPE: Duration = Duration::from_millis(500);
/// Time for the very last log lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Serves until a signal or a failure ends it; returns the exit code. `announce`
/// hears the public and the admin address once all of it stands.
///
/// # Errors
/// When the process cannot start.
pub async fn run(config: &Config, announce: impl Fn(SocketAddr, SocketAddr)) -> anyhow::Result<u8> {
    let telemetry = Telemetry::start(
        crate::SERVICE,
        &config.telemetry,
        &config.otel,
        RequestContext::correlate,
    )?;
    let admin = AdminListener::default();
    // A failure is told once, by the caller, as the last line.
    let outcome = run_observed(config, &telemetry, announce, &admin).await;
    let flush = config.telemetry.flush_timeout;
    // It keeps its bound itself; a little more for counting what was lost.
    lifecycle::step("telemetry", flush + LAST_WORDS, telemetry.flush()).await;
    // Scrapeable until here: what became of the last spans can be read.
    lifecycle::step("admin listener", LAST_SCRAPE, admin.close()).await;
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
    let max_connections = descriptors::fit(config)?;
    // Before anything is made: a port that is taken leaves nothing behind.
    let admin = Reserved::new("admin.addr", config.admin.addr)?;
    let public = Reserved::new("http.addr", config.http.addr)?;
    let requests = Requests::new(config, max_connections, registry, &clock)?;
    let db_metrics = Arc::new(DbMetrics::register(registry)?);
    let exemplars = telemetry.exemplars.clone();
    let database = Database::new(&SCHEMA, &config.database, db_metrics, exemplars)?;
    for warning in config.warnings.iter().chain(&database.exposed_files()) {
        tracing::warn!("{warning}");
    }
    let health = Health::new(
        lifecycle.clone(),
        Arc::clone(&clock),
        HealthMetrics::register(registry)?,
    );

    // The admin listener comes first and leaves last: probes and scrapes have an
    // answer from the first moment to the end of the drain.
    let admin = admin.listen("admin")?;
    let admin_address = admin.local_addr()?;
    let shown = admin::shown(config, telemetry, &lifecycle, &database, &clock, &requests)?;
    let admin_routes = shown.routes(&health);
    let serving = |name: &'static str,
                   max_connections: u32,
                   stop: CancellationToken,
                   kill: CancellationToken| Serving {
        name,
        tls: None,
        patience: Patience {
            header: config.http.header_timeout,
            idle: config.http.idle_timeout,
            rate: config.http.min_read_rate.0,
        },
        control_frames: config.http.max_control_frames,
        admission: Admission::new(max_connections, requests.metrics.shed.clone()),
        keep_alive: true,
        lifecycle: lifecycle.clone(),
        stop,
        kill,
        open: requests.metrics.connections.with_label_values(&[name]),
        ended: requests.ended.clone(),
    };
    // Not even the hard token ends a scrape; the process does.
    let admin_serving = serving(
        "admin",
        config.admin.max_connections,
        admin_listener.stop.clone(),
        CancellationToken::new(),
    );
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
        started = started => started.and_then(|started| {
            let public = public.listen("public")?;
            Ok(Some((started, public.local_addr()?, public)))
        }),
    };
    let failure = match result {
        Ok(Some((Started { service, tls }, address, public))) => {
            if let Some(tls) = &tls {
                tls.watch(&lifecycle);
            }
            let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
            let serving = serving("public", max_connections, soft, hard);
            let trusted = config.http.trusted_proxies.clone();
            let public_serving = Serving {
                tls,
                admission: serving
                    .admission
                    .per_client(config.http.max_connections_per_client, trusted),
                ..serving
            };
            lifecycle.spawn(
                "public listener",
                listener::serve(public, service, public_serving),
            );
            lifecycle.enter(State::Ready);
            announce(address, admin_address);
            None
        }
        Ok(None) => None,
        Err(error) => {
            lifecycle.fail("the start failed");
            Some(error)
        }
    };

    lifecycle.run_down(&config.lifecycle).await;
    lifecycle::step("database", CLOSE_DATABASE, database.close()).await;
    failure.map_or_else(|| Ok(exit_code(&lifecycle)), Err)
}

fn exit_code(lifecycle: &Lifecycle) -> u8 {
    match (lifecycle.cuts(), lifecycle.has_failed()) {
        (0, false) => 0,
        (0, true) => 1,
        _ => lifecycle::EXIT_FORCED,
    }
}

/// What the start has to show for itself.
struct Started<S> {
    service: S,
    tls: Option<Tls>,
}

/// From the database to the service, which has no socket yet.
async fn start(
    config: &Config,
    telemetry: &Telemetry,
    lifecycle: &Lifecycle,
    health: &Health,
    database: &Database,
    clock: &SharedClock,
    requests: &Requests,
) -> anyhow::Result<Started<impl Serve + use<>>> {
    let registry = &telemetry.registry;
    let limits = Limits::new(&config.rate_limit, &RateLimitMetrics::register(registry)?)?;
    let stores = app::Stores::new(database, clock);
    let runner = Runner::new(
        lifecycle,
        health,
        database,
        WorkerMetrics::register(registry)?,
        requests.faults(),
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
        outside::migrate(config, database)
            .await
            .context("migrations failed")?;
    }
    outside::watch_migrations(health, database);
    outside::first_administrator(config, database, &*stores.identity, &**clock).await?;
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
            config.telemetry.error_events_per_second,
        )),
        limits: &limits,
        lifecycle: lifecycle.clone(),
    };
    let router = router.merge(documentation(config.profile));
    let service = middleware::around(
        router,
        probes::routes(health.clone(), Detail::Status),
        parts,
    );
    limits.start(lifecycle).await;
    outside::watch_limits(health, &limits);
    let tls = match Tls::new(&config.http)? {
        Some(tls) => Some(tls.observed(TlsMetrics::register(registry)?)),
        None => None,
    };
    Ok(Started { service, tls })
}

/// Swagger UI and the document that it shows, from the binary. In development whoever
/// opens the bare address in a browser is led there.
fn documentation(profile: Profile) -> Router {
    let pages: Router = utoipa_swagger_ui::SwaggerUi::new("/docs")
        .url("/openapi.json", app::openapi())
        .into();
    match profile {
        Profile::Development => pages.route("/", get(async || Redirect::temporary("/docs"))),
        Profile::Production => pages,
    }
}
