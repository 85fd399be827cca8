//! Logs, traces and metrics of a service.
//!
//! A block of metrics is declared with [`metrics!`](crate::metrics!), one documented line for each
//! metric, and registered with a given registry. [`Telemetry::start`] starts logs and traces once
//! in a process. Log lines and spans are exported by OTLP if the `OTEL_*` variables of the
//! OpenTelemetry specification name a collector.
//!
//! ```
//! use prometheus::{IntCounterVec, Registry};
//! use telemetry::metrics;
//!
//! metrics! {
//! /// Metrics of the mailer.
//!     pub struct MailerMetrics {
//! /// Messages by outcome.
//!         pub messages: IntCounterVec = "mailer_messages_total"["outcome"];
//!     }
//! }
//!
//! let registry = Registry::new();
//! let metrics = MailerMetrics::register(&registry)?;
//! metrics.messages.with_label_values(&["sent"]).inc();
//! assert_eq!(MailerMetrics::DESCRIPTORS[0].help(), "Messages by outcome");
//! # Ok::<(), prometheus::Error>(())
//! ```

pub mod accept;
mod allocator;
mod config;
mod correlation;
pub mod exposition;
pub mod hex;
pub mod ipv4;
pub mod logs;
pub mod metrics;
mod otlp;
mod own_metrics;
mod runtime;
mod scrape_collector;
mod service;
pub mod traces;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::Registry;

pub use allocator::AllocatorMetrics;
pub use config::{Config, LogFormat};
pub use correlation::{Correlate, Correlation};
pub use exposition::Exemplars;
pub use logs::Logs;
pub use own_metrics::TelemetryMetrics;
pub use runtime::TokioMetrics;
pub use service::Service;
pub use traces::Traces;

/// The `OTEL_*` variables that are read.
#[must_use]
pub fn variable_names() -> Vec<String> {
    otlp::names()
}

/// The telemetry of a process, flushed at its end.
pub struct Telemetry {
    /// All metrics of the process.
    pub registry: Registry,
    /// Exemplars of the histograms.
    pub exemplars: Exemplars,
    /// The log.
    pub logs: Logs,
    /// The traces.
    pub traces: Traces,
    flush_timeout: Duration,
}

impl Telemetry {
    /// Starts logs and traces. The registry holds the metrics of the process. `correlate` provides
    /// the ids for log lines.
    ///
    /// # Errors
    /// When a metric or the logger is already registered, or a thread cannot be started.
    pub fn start(
        service: Service,
        config: &Config,
        otel: &BTreeMap<String, String>,
        correlate: Correlate,
    ) -> anyhow::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        runtime::register(&registry)?;
        allocator::register(&registry)?;
        let metrics = TelemetryMetrics::register(&registry)?;
        metrics
            .build_info
            .with_label_values(&[service.version, service.revision])
            .set(1);
        let traces = Traces::start(service, config, otel, &metrics)?;
        let logs = logs::start(config, otel, &metrics, &traces, correlate)?;
        traces.report();
        logs.report(traces.warnings());
        Ok(Self {
            registry,
            exemplars: Exemplars::default(),
            logs,
            traces,
            flush_timeout: config.flush_timeout,
        })
    }

    /// Exports the buffered spans and log lines within the configured time. Standard output is not
    /// flushed here because lines are written until the end of the process, see [`logs::flush`].
    pub async fn flush(&self) {
        let bound = self.flush_timeout;
        // Concurrently, so that the bound holds for both together.
        tokio::join!(self.traces.flush(bound), self.logs.flush_export(bound));
    }
}
