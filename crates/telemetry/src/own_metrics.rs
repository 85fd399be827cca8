//! Metrics of the telemetry.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use crate::metrics;

metrics! {
    /// The build, panics, log lines and exports.
    pub struct TelemetryMetrics {
        /// Version and revision of the build, as labels. The value is always 1.
        pub build_info: IntGaugeVec = "build_info"["version", "revision"];
        /// Panics of all threads. A panic in a request is answered with 500, a panic in a
        /// supervised task ends the process. Each panic has a log line with the target `panic`.
        pub panics: IntCounter = "panics_total";
        /// Log lines that were written.
        pub log_lines: IntCounterVec = "log_lines_total"["level"];
        /// Log lines that were dropped because the buffer was full or could not be written.
        pub log_lines_dropped: IntCounter = "log_lines_dropped_total";
        /// Spans by outcome. `exported` and `late` (exported after the end of an unsampled request)
        /// were acknowledged, `dropped` found the queue full, `failed` were rejected or not
        /// acknowledged.
        pub spans: IntCounterVec = "trace_spans_total"["outcome"];
        /// Log lines for OTLP by outcome. `exported` were acknowledged, `dropped` found the queue
        /// full, `failed` were rejected or not acknowledged. Standard output has all of them.
        pub log_exports: IntCounterVec = "log_export_total"["outcome"];
    }
}
