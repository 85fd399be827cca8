//! The metrics of the telemetry itself.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use crate::metrics;

metrics! {
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
        /// Spans by what became of them. `exported`, `late` (exported after the
        /// fact), `dropped` (the queue was full), `failed` (the collector refused).
        pub spans: IntCounterVec = "trace_spans_total"["outcome"];
        /// Log lines for OTLP by what became of them: `exported`, `dropped` (the queue
        /// was full), `failed` (the collector refused). Standard output has them all.
        pub log_exports: IntCounterVec = "log_export_total"["outcome"];
    }
}
