//! Logs, traces, metrics.

mod allocator;
mod config;
pub(crate) mod dotted;
pub mod exposition;
pub(crate) mod hex;
pub mod logs;
pub mod metrics;
mod otlp;
mod read;
mod runtime;
pub mod traces;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};

pub use allocator::AllocatorMetrics;
pub use config::{Config, LogFormat};
pub use exposition::Exemplars;
pub use logs::Logs;
pub use runtime::TokioMetrics;
pub use traces::Traces;

use crate::metrics as metrics_block;

/// The `OTEL_*` variables that have an effect here.
#[must_use]
pub fn variable_names() -> Vec<String> {
    otlp::names()
}

/// Revision of the sources, when the build was told.
pub const REVISION: &str = match option_env!("BUILD_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

metrics_block! {
    /// The telemetry itself, and what was built.
    pub struct TelemetryMetrics {
        /// Always 1; the labels say what runs.
        pub build_info: IntGaugeVec = "build_info"["version", "revision"];
        /// Panics of any thread: of a request, which is answered with 500, of blocking work, of a
        /// task, which ends the process. Each has a line with the target `panic`.
        pub panics: IntCounter = "panics_total";
        /// Log lines that were written.
        pub log_lines: IntCounterVec = "log_lines_total"["level"];
        /// Log lines that found the buffer full.
        pub log_lines_dropped: IntCounter = "log_lines_dropped_total";
        /// Spans by what became of them: `exported`, `late` (exported after the
        /// fact), `dropped` (the queue was full), `failed` (the collector refused).
        pub spans: IntCounterVec = "trace_spans_total"["outcome"];
        /// Log lines for OTLP by what became of them: `exported`, `dropped` (the queue
        /// was full), `failed` (the collector refused). Standard output has them all.
        pub log_exports: IntCounterVec = "log_export_total"["outcome"];
    }
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
    /// Starts logs and traces. The registry holds the metrics of the process.
    ///
    /// # Errors
    /// When a metric or the logger is there already, or a thread cannot be started.
    pub fn start(config: &Config, otel: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        runtime::register(&registry)?;
        allocator::register(&registry)?;
        let metrics = TelemetryMetrics::register(&registry)?;
        metrics
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION])
            .set(1);
        let traces = Traces::start(config, otel, &metrics)?;
        let logs = logs::start(config, otel, &metrics, &traces)?;
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
