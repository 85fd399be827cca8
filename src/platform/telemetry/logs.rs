//! Log lines: for people in development, one JSON object a line elsewhere.

use std::fmt::Write as _;

use prometheus::IntCounterVec;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Config, LogFormat, TelemetryMetrics};
use crate::platform::observe::RequestContext;

/// Installs the process's logger.
///
/// # Errors
/// When one is installed already.
pub(super) fn start(config: &Config, metrics: &TelemetryMetrics) -> anyhow::Result<()> {
    let filter: tracing_subscriber::EnvFilter = config.log_filter.parse()?;
    let lines = match config.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .event_format(JsonLine)
            .with_ansi(false)
            .boxed(),
        LogFormat::Pretty => tracing_subscriber::fmt::layer().compact().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(Count(metrics.log_lines.clone()))
        .with(lines)
        .try_init()?;
    Ok(())
}

/// Counts lines by level.
struct Count(IntCounterVec);

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0
            .with_label_values(&[level(event.metadata().level())])
            .inc();
    }
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// One JSON object a line, with the ids of the request that is being worked on.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = serde_json::Map::new();
        let metadata = event.metadata();
        #[allow(clippy::disallowed_methods)]
        let now = time::OffsetDateTime::now_utc()
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default();
        line.insert("timestamp".to_owned(), now.into());
        line.insert("level".to_owned(), level(metadata.level()).into());
        line.insert("message".to_owned(), "".into());
        line.insert("target".to_owned(), metadata.target().into());
        RequestContext::with(|context| {
            if let Some(context) = context {
                line.insert("trace_id".to_owned(), context.trace_id.to_string().into());
                line.insert("span_id".to_owned(), context.span_id.to_string().into());
                line.insert("request_id".to_owned(), (*context.request_id).into());
            }
        });
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", serde_json::Value::Object(line))
    }
}

struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{value:?}");
        self.0.insert(field.name().to_owned(), text.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
