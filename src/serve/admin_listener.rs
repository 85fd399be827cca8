//! The contents of the admin listener, and the parts that it shares with the public one.

use std::sync::Arc;

use admin::{Admin, AdminMetrics, Build, Info, Pages, Profiler, Switches};
use db::{Database, migrate as migrations};
use http_server::connection::ended::ConnectionEnds;
use http_server::observe::HttpMetrics;
use lifecycle::Lifecycle;
use prometheus::Registry;
use request::faults;
use request::faults::{FaultMetrics, Faults};
use settings::clock::SharedClock;
use telemetry::Telemetry;

use crate::app;
use crate::config::Config;

/// The pages of `docs/runbooks`, listed by the build script.
const RUNBOOKS: Pages = include!(concat!(env!("OUT_DIR"), "/runbooks.rs"));

/// Data about the requests of the public listener, shared by both listeners.
pub(super) struct Requests {
    pub(super) metrics: HttpMetrics,
    pub(super) ended: ConnectionEnds,
    /// Method and route template of every operation.
    pub(super) operations: Vec<(&'static str, String)>,
    faults: Faults,
    may_fail: bool,
}

impl Requests {
    pub(super) fn new(
        config: &Config,
        max_connections: u32,
        registry: &Registry,
        clock: &SharedClock,
    ) -> anyhow::Result<Self> {
        let operations = operations(&app::openapi());
        let fault_metrics = FaultMetrics::register(registry)?;
        let metrics = HttpMetrics::register(registry)?;
        metrics.in_flight_max.set(config.http.max_in_flight.into());
        metrics.bodies_max.set(config.http.max_bodies.into());
        metrics.connections_max.set(max_connections.into());
        let workers = app::WORKERS.map(|name| (faults::RUN, faults::worker_path(name)));
        let targets = operations.iter().cloned().chain(workers);
        Ok(Self {
            metrics,
            ended: ConnectionEnds::register(registry)?.with_every_reason(),
            faults: Faults::new(targets, Arc::clone(clock), fault_metrics),
            operations,
            may_fail: config.admin.fault_injection,
        })
    }

    /// The faults, or `None` if fault injection is disabled.
    pub(super) fn faults(&self) -> Option<&Faults> {
        self.may_fail.then_some(&self.faults)
    }
}

/// The contents of the admin listener.
pub(super) fn shown(
    config: &Config,
    telemetry: &Telemetry,
    lifecycle: &Lifecycle,
    database: &Database,
    clock: &SharedClock,
    requests: &Requests,
) -> anyhow::Result<Admin> {
    let (pool, faults) = (database.clone(), requests.faults.clone());
    Ok(Admin {
        registry: telemetry.registry.clone(),
        exemplars: telemetry.exemplars.clone(),
        before_scrape: Arc::new(move || {
            pool.observe_pool();
            // Removes expired faults from the gauge.
            let _listed = faults.list();
        }),
        profile: config.profile,
        token: config.admin.token.clone(),
        max_token_guesses: config.admin.max_token_guesses,
        metrics: AdminMetrics::register(&telemetry.registry)?,
        info: Info::new(
            &crate::SERVICE,
            build(),
            &config.environment,
            config.profile,
            &**clock,
            migrations::known(database),
        ),
        switches: Switches::new(
            &telemetry.logs,
            &config.telemetry.log_filter,
            &telemetry.traces,
            clock,
            lifecycle,
        ),
        faults: requests.faults().cloned(),
        profiler: Profiler::new(lifecycle),
        runbooks: RUNBOOKS,
    })
}

/// How this binary was built.
fn build() -> Build {
    let features = [
        ("sqlite", cfg!(feature = "sqlite")),
        ("postgres", cfg!(feature = "postgres")),
    ];
    let compiled = features.into_iter().filter(|(_, compiled)| *compiled);
    Build {
        rust: env!("BUILD_RUSTC"),
        features: compiled.map(|(name, _)| name).collect(),
    }
}

/// Method and route template of every operation.
fn operations(document: &utoipa::openapi::OpenApi) -> Vec<(&'static str, String)> {
    let mut operations = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ] {
            if operation.is_some() {
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}
