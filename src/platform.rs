//! The parts that the crates provide to the service. They are made once, at the start.

mod descriptors;

use std::sync::Arc;

use client::{CallError, Client, ClientMetrics, Limits, Tls};
use db::{Database, DbMetrics};
use http_server::connection::ended::ConnectionEnds;
use http_server::observe::HttpMetrics;
use lifecycle::Lifecycle;
use lifecycle::health::{Health, HealthMetrics};
use limits::{RateLimitMetrics, RateLimits};
use prometheus::Registry;
use request::faults::{FaultMetrics, Faults};
use settings::clock::{SharedClock, SystemClock};
use telemetry::Telemetry;
use workers::{Runner, WorkerMetrics};

use crate::SCHEMA;
use crate::config::Config;

/// Method and route template of an operation.
pub type Operation = (&'static str, String);

/// The parts of the process that the listeners and the application are built from.
pub struct Platform<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// Registry of the metrics, logs, traces.
    pub telemetry: &'a Telemetry,
    /// Source of the time.
    pub clock: SharedClock,
    /// Shutdown, and tasks.
    pub lifecycle: Lifecycle,
    /// Checks of the readiness.
    pub health: Health,
    /// The configured database. It is not reached yet.
    pub database: Database,
    /// Limits by client, principal and account.
    pub rate_limits: RateLimits,
    /// Starts workers.
    pub workers: Runner,
    /// Metrics of outgoing calls.
    pub client_metrics: ClientMetrics,
    /// Metrics of requests and connections.
    pub http_metrics: HttpMetrics,
    /// Counts connections that are ended because of their clients.
    pub connection_ends: ConnectionEnds,
    /// Maximum connections of the public listener.
    pub max_connections: u32,
    /// All documented operations.
    pub operations: Vec<Operation>,
    /// The faults that are set. It is empty when fault injection is disabled.
    pub faults: Faults,
}

impl<'a> Platform<'a> {
    /// Makes the parts. It opens no connection, and raises the limit of open files first.
    ///
    /// # Errors
    /// When a part cannot be made with this configuration.
    pub fn new(
        config: &'a Config,
        telemetry: &'a Telemetry,
        lifecycle: Lifecycle,
        operations: Vec<Operation>,
    ) -> anyhow::Result<Self> {
        let max_connections = descriptors::fit(config)?;
        let registry = &telemetry.registry;
        let clock: SharedClock = Arc::new(SystemClock);
        let health_metrics = HealthMetrics::register(registry)?;
        let health = Health::new(lifecycle.clone(), Arc::clone(&clock), health_metrics);
        let fault_metrics = FaultMetrics::register(registry)?;
        let faults = Faults::new(
            operations.iter().cloned(),
            Arc::clone(&clock),
            fault_metrics,
        );
        let database = Database::new(
            &SCHEMA,
            &config.database,
            Arc::new(DbMetrics::register(registry)?),
            telemetry.exemplars.clone(),
        )?;
        let workers = Runner::new(
            &lifecycle,
            &health,
            &database,
            WorkerMetrics::register(registry)?,
            config.admin.fault_injection.then_some(&faults),
        );
        Ok(Self {
            rate_limits: RateLimits::new(
                &config.rate_limit,
                &RateLimitMetrics::register(registry)?,
            )?,
            client_metrics: ClientMetrics::register(registry)?,
            http_metrics: http_metrics(config, max_connections, registry)?,
            connection_ends: ConnectionEnds::register(registry)?.with_every_reason(),
            config,
            telemetry,
            clock,
            lifecycle,
            health,
            database,
            workers,
            max_connections,
            operations,
            faults,
        })
    }

    /// The registry of the metrics.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.telemetry.registry
    }

    /// A client for outgoing calls. `name` is its label in metrics.
    ///
    /// # Errors
    /// When the system has no certificates for TLS.
    pub fn client(
        &self,
        name: &'static str,
        limits: Limits,
        tls: Tls,
    ) -> Result<Client, CallError> {
        let traces = self.telemetry.traces.clone();
        let metrics = self.client_metrics.clone();
        Client::new(name, &crate::SERVICE, (limits, tls), traces, metrics)
    }

    /// The faults, or `None` if fault injection is disabled.
    #[must_use]
    pub fn injectable_faults(&self) -> Option<&Faults> {
        self.config.admin.fault_injection.then_some(&self.faults)
    }
}

/// The metrics of requests, with the limits that do not change.
fn http_metrics(
    config: &Config,
    max_connections: u32,
    registry: &Registry,
) -> prometheus::Result<HttpMetrics> {
    let metrics = HttpMetrics::register(registry)?;
    metrics.in_flight_max.set(config.http.max_in_flight.into());
    metrics.bodies_max.set(config.http.max_bodies.into());
    metrics.connections_max.set(max_connections.into());
    Ok(metrics)
}
