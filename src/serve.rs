//! The process: the order of its start, and its end.

mod admin_listener;
mod dependencies;
mod descriptors;
mod subcommands;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::{SCHEMA, app};
pub use subcommands::{Findings, check, healthcheck, liveness_url, migrate, promote};

use admin_listener::Requests;
use db::{Database, DbMetrics};
use http_server::connection::admission::Admission;
use http_server::connection::deadlines::ConnectionTimeouts;
use http_server::connection::listener::ReservedPort;
use http_server::connection::tls::{Tls, TlsMetrics};
use http_server::connection::{ListenerConfig, Serve, listener};
use http_server::observe::{Observer, RouteTable};
use http_server::probes::Detail;
use http_server::rate_limit::{Limits, RateLimitMetrics};
use http_server::{middleware, probes};
use lifecycle::health::{Health, HealthMetrics};
use lifecycle::{self, Lifecycle, LifecycleMetrics, State};
use request::RequestContext;
use settings::Profile;
use settings::clock::{SharedClock, SystemClock};
use telemetry::{Telemetry, logs};
use workers::{Runner, WorkerMetrics};

// Together with the time for cutting work and ending the runtime, these stay below five seconds.
// The chart adds five seconds to drain delay, grace period and flush timeout.

/// Time to close the connections of the database.
const CLOSE_DATABASE: Duration = Duration::from_secs(2);
/// Time to answer the last scrapes.
const LAST_SCRAPE: Duration = Duration::from_millis(500);
/// Time to write the last log lines.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Serves until a signal or a failure, and returns the exit code. `announce` gets the public and
/// the admin address when both listeners are ready.
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
    // The caller reports a failure once, as the last line.
    let outcome = run_observed(config, &telemetry, announce, &admin).await;
    let flush = config.telemetry.flush_timeout;
    // The flush has its own time limit. The step adds time to count lost data.
    lifecycle::bounded_step("telemetry", flush + LAST_WORDS, telemetry.flush()).await;
    // The admin listener is open until here, so that the counters of the last spans can be scraped.
    lifecycle::bounded_step("admin listener", LAST_SCRAPE, admin.close()).await;
    logs::flush(LAST_WORDS);
    outcome
}

/// The admin listener, which is started first and closed last.
#[derive(Default)]
struct AdminListener {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl AdminListener {
    fn serve(&self, lifecycle: &Lifecycle, serving: impl Future<Output = ()> + Send + 'static) {
        let task = lifecycle.spawn_until("admin listener", self.stop.clone(), serving);
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
            // The supervising task has reported a panic.
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
    // Ports are bound first, so that a port in use leaves nothing behind.
    let admin = ReservedPort::new("admin.addr", config.admin.addr)?;
    let public = ReservedPort::new("http.addr", config.http.addr)?;
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

    // The admin listener is started first and closed last, so that probes and scrapes are answered
    // from the start to the end of the drain.
    let admin = admin.listen("admin")?;
    let admin_address = admin.local_addr()?;
    let shown = admin_listener::shown(config, telemetry, &lifecycle, &database, &clock, &requests)?;
    let admin_routes = shown.routes(&health);
    let serving = |name: &'static str,
                   max_connections: u32,
                   stop: CancellationToken,
                   kill: CancellationToken| ListenerConfig {
        name,
        tls: None,
        patience: ConnectionTimeouts {
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
    // The hard token does not end scrapes. They end with the process.
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
            let public_serving = ListenerConfig {
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

    lifecycle.run_shutdown(&config.lifecycle).await;
    lifecycle::bounded_step("database", CLOSE_DATABASE, database.close()).await;
    failure.map_or_else(|| Ok(exit_code(&lifecycle)), Err)
}

fn exit_code(lifecycle: &Lifecycle) -> u8 {
    match (lifecycle.cuts(), lifecycle.has_failed()) {
        (0, false) => 0,
        (0, true) => 1,
        _ => lifecycle::EXIT_FORCED,
    }
}

/// The result of the start.
struct Started<S> {
    service: S,
    tls: Option<Tls>,
}

/// Prepares the service, beginning with the database. It has no socket yet.
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
    // All following steps have external dependencies.
    health.initialised();
    dependencies::watch_database(health, database);
    dependencies::reach(config, database).await?;
    if config.database.migrate_on_start {
        dependencies::migrate(config, database)
            .await
            .context("migrations failed")?;
    }
    dependencies::watch_migrations(health, database);
    dependencies::first_administrator(config, database, &*stores.identity, &**clock).await?;
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
    dependencies::watch_limits(health, &limits);
    let tls = match Tls::new(config.http.tls_cert.as_ref(), config.http.tls_key.as_ref())? {
        Some(tls) => Some(tls.observed(TlsMetrics::register(registry)?)),
        None => None,
    };
    Ok(Started { service, tls })
}

/// Swagger UI and its document, both from the binary. In development `/` redirects to it.
fn documentation(profile: Profile) -> Router {
    let pages: Router = utoipa_swagger_ui::SwaggerUi::new("/docs")
        .url("/openapi.json", app::openapi())
        .into();
    match profile {
        Profile::Development => pages.route("/", get(async || Redirect::temporary("/docs"))),
        Profile::Production => pages,
    }
}
