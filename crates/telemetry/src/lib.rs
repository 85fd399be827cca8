//! Logs, traces and metrics of a service.
//!
//! A block of metrics is declared with [`metrics!`](crate::metrics!), one documented line
//! for each, and registers on the registry that it is given. [`Telemetry::start`] starts
//! logs and traces once in a process. Lines and spans leave by OTLP when the `OTEL_*`
//! variables of the OpenTelemetry specification name a collector.
//!
//! ```
//! use prometheus::{IntCounterVec, Registry};
//! use telemetry::metrics;
//!
//! metrics! {
//!     /// What the mailer does.
//!     pub struct MailerMetrics {
//!         /// Messages by what became of them.
//!         pub messages: IntCounterVec = "mailer_messages_total"["outcome"];
//!     }
//! }
//!
//! let registry = Registry::new();
//! let metrics = MailerMetrics::register(&registry)?;
//! metrics.messages.with_label_values(&["sent"]).inc();
//! assert_eq!(MailerMetrics::DESCRIPTORS[0].help(), "Messages by what became of them");
//! # Ok::<(), prometheus::Error>(())
//! ```

mod allocator;
mod config;
mod correlation;
pub mod dotted;
pub mod exposition;
pub mod hex;
pub mod logs;
pub mod metrics;
mod otlp;
mod own_metrics;
mod read;
mod runtime;
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

/// The `OTEL_*` variables that have an effect here.
#[must_use]
pub fn variable_names() -> Vec<String> {
    otlp::names()
}

/// What runs for as long as the process does, and is flushed at its end.
pub struct Telemetry {
    /// Every metric of the process.
    pub registry: Registry,
    /// Sampled traces for the buckets of its histograms.
    pub exemplars: Exemplars,
    /// Lines, and what of them is written.
    pub logs: Logs,
    /// Spans, and what of them is sampled.
    pub traces: Traces,
    flush_timeout: Duration,
}

impl Telemetry {
    /// Starts logs and traces of a service. The registry holds the metrics of the process;
    /// `correlate` tells for each log line the work during which it is written.
    ///
    /// # Errors
    /// When a metric or the logger is there already, or a thread cannot be started.
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

    /// Sends what is buffered, within the bound of the configuration. The lines of
    /// standard output have no part in it: they are written to the very end, see
    /// [`logs::flush`].
    pub async fn flush(&self) {
        let bound = self.flush_timeout;
        // Side by side: one bound for both.
        tokio::join!(self.traces.flush(bound), self.logs.flush_export(bound));
    }
}
