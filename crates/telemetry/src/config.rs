//! The section of the configuration about logs and traces.

use std::time::Duration;

use settings::check::ratio;
use settings::settings;
use settings::{Raw, Setting};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One object a line, for machines.
    Json,
}

impl Setting for LogFormat {
    const KIND: &'static str = "pretty or json";
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw.text.as_str() {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

settings! {
    /// Logs and traces. Exporters are configured with the standard `OTEL_*` variables.
    pub struct Config("telemetry") {
        /// How a log line looks.
        pub log_format("log_format"): LogFormat = PerProfile { development: "pretty", production: "json" };
        /// Which log lines are written (`RUST_LOG`), in the syntax of tracing's `EnvFilter`.
        pub log_filter("log_filter"): String = Same("info"), check filter;
        /// Bound of the flush at exit, whatever the collector does.
        pub flush_timeout("flush_timeout"): Duration = Same("5s");
        /// Error events that are logged of one kind (fingerprint); the next one counts the others.
        pub error_events_per_second("error_events_per_second"): u32 = Same("100");
        /// Share of new traces that is sampled; `OTEL_TRACES_SAMPLER` wins when set.
        pub trace_ratio("trace_ratio"): f64 = PerProfile { development: "1.0", production: "0.1" }, check ratio;
        /// Unsampled requests that take longer than this, or end in 5xx, export their span after the fact.
        pub late_span_after("late_span_after"): Duration = Same("1s");
        /// Bound of such spans.
        pub late_spans_per_second("late_spans_per_second"): u32 = Same("50");
    }
}

// A check takes what the key holds.
#[allow(clippy::ptr_arg)]
fn filter(text: &String) -> Result<(), String> {
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| ())
        .map_err(|error| format!("is not a log filter: {error}"))
}
