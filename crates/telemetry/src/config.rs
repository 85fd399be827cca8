//! Configuration of logs and traces.

use std::time::Duration;

use settings::check::ratio;
use settings::{RawValue, Setting, settings};

/// Format of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Setting for LogFormat {
    const KIND: &'static str = "pretty or json";
    fn parse(raw: &RawValue) -> Result<Self, String> {
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
        /// Format of the log lines.
        pub log_format("log_format"): LogFormat = PerProfile { development: "pretty", production: "json" };
        /// Filter of the log lines (`RUST_LOG`), in the syntax of `EnvFilter` of tracing.
        pub log_filter("log_filter"): String = Same("info"), check filter;
        /// Time to flush telemetry at exit, even if the collector does not answer.
        pub flush_timeout("flush_timeout"): Duration = Same("5s");
        /// Limit of logged error events with the same fingerprint, by the second. The next logged
        /// event contains the number of suppressed ones.
        pub error_events_per_second("error_events_per_second"): u32 = Same("100");
        /// Ratio of new traces that are sampled. `OTEL_TRACES_SAMPLER` overrides it.
        pub trace_ratio("trace_ratio"): f64 = PerProfile { development: "1.0", production: "0.1" }, check ratio;
        /// Duration beyond which an unsampled request exports its span after it has ended. Requests
        /// that end in 5xx always do.
        pub late_span_after("late_span_after"): Duration = Same("1s");
        /// Limit of spans that are exported after the end of an unsampled request.
        pub late_spans_per_second("late_spans_per_second"): u32 = Same("50");
    }
}

#[expect(clippy::ptr_arg, reason = "a check takes the type of the key")]
fn filter(text: &String) -> Result<(), String> {
    text.parse::<tracing_subscriber::EnvFilter>()
        .map(|_| ())
        .map_err(|error| format!("is not a log filter: {error}"))
}
