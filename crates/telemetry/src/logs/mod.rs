//! The log: text for people in development, one JSON object a line elsewhere.
//!
//! The log has two sources: `tracing` events through [`LogLayer`], and request lines, which are
//! stored as fields and formatted by the log thread. A request line costs a tenth of an event this
//! way. Both share one filter, one format, one [`sink`] and the optional export by OTLP.

mod batch;
mod bootstrap;
mod export;
mod json;
mod line;
mod panics;
mod pretty;
mod request;
mod sink;
mod targets;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::IntCounter;
use settings::clock::system_time;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat};
use crate::correlation::Correlate;
use crate::own_metrics::TelemetryMetrics;
use crate::service::Service;
use crate::traces::Traces;

pub use bootstrap::{json_line, panics_as_json};
use export::LineExport;
use line::{Line, LineHeader, Message, TraceIds};
pub use panics::{CaughtPanic, panic_message};
pub use request::{FIELDS as REQUEST_LINE, RequestFields, RequestLine};
use sink::Sink;

/// Target of the request lines, for filters (`request=off`).
pub const REQUEST: &str = "request";

/// Bytes that most events fit into. Longer ones make the buffer grow.
const EVENT_CAPACITY: usize = 512;

const LEVELS: [Level; 5] = [
    Level::ERROR,
    Level::WARN,
    Level::INFO,
    Level::DEBUG,
    Level::TRACE,
];

/// Global because a process has one standard output.
static LOGS: OnceLock<Logs> = OnceLock::new();

/// Handle of the log.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

/// Format of the lines.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Pretty { colours: bool },
}

/// Replaces the filter. Hides the type of the subscriber.
type Reload = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

struct Inner {
    service: Service,
    format: Format,
    sink: Sink,
    export: Option<LineExport>,
    /// Ignored configuration, logged once the logger is installed.
    warnings: Vec<String>,
    /// Counters in the order of [`LEVELS`].
    written: [IntCounter; LEVELS.len()],
    /// Whether the filter enables request lines.
    request_lines: AtomicBool,
    reload: OnceLock<Reload>,
}

/// Installs the logger and the layer that creates spans of sampled work.
///
/// # Errors
/// When a logger is already installed.
pub(super) fn start(
    config: &Config,
    variables: &BTreeMap<String, String>,
    metrics: &TelemetryMetrics,
    traces: &Traces,
    correlate: Correlate,
) -> anyhow::Result<Logs> {
    let filter = parse_filter(&config.log_filter, &traces.service())?;
    let (export, warnings) = LineExport::start(variables, traces, &metrics.log_exports)?;
    let out = std::io::stdout();
    // `NO_COLOR` (no-color.org) belongs to the terminal and not to the configuration of the
    // service.
    #[expect(
        clippy::disallowed_methods,
        reason = "a property of the terminal, which is not configured"
    )]
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let format = match config.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Pretty => Format::Pretty {
            colours: out.is_terminal() && !plain,
        },
    };
    let request = move |out: &mut Vec<u8>, line: &RequestLine<'_>| {
        let facts = &line.facts;
        format.write(
            out,
            &facts.head(),
            Some(facts.ids()),
            Some(line.request_id),
            line,
        );
    };
    let logs = Logs(Arc::new(Inner {
        service: traces.service(),
        format,
        sink: Sink::start(out, request, metrics.log_lines_dropped.clone())?,
        export,
        warnings,
        written: LEVELS.map(|level| metrics.log_lines.with_label_values(&[level_name(level)])),
        request_lines: AtomicBool::new(passes_request_line(&config.log_filter)),
        reload: OnceLock::new(),
    }));
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(traces.layer())
        .with(
            LogLayer {
                logs: logs.clone(),
                correlate,
            }
            .with_filter(filter),
        )
        .try_init()?;
    let _first = logs
        .0
        .reload
        .set(Box::new(move |filter| handle.reload(filter)));
    let _first = LOGS.set(logs.clone());
    panics::install(metrics.panics.clone());
    if let Some(hint) = logs.hint(&config.log_filter) {
        tracing::warn!(hint, "a part of the log filter has no effect");
    }
    Ok(logs)
}

/// Writes the buffered lines, waiting for at most `bound`. For exits that do not return to `main`.
pub fn flush(bound: Duration) {
    if let Some(logs) = LOGS.get() {
        logs.flush(bound);
    }
}

impl Logs {
    /// Replaces the filter at run time.
    ///
    /// # Errors
    /// When the filter cannot be parsed. The old filter stays.
    pub fn set_filter(&self, text: &str) -> Result<(), String> {
        let filter = parse_filter(text, &self.0.service)
            .map_err(|error| format!("is not a log filter: {error}"))?;
        if let Some(reload) = self.0.reload.get() {
            reload(filter).map_err(|error| error.to_string())?;
        }
        self.0
            .request_lines
            .store(passes_request_line(text), Ordering::Relaxed);
        Ok(())
    }

    /// A hint about a filter with a target that no line has.
    #[must_use]
    pub fn hint(&self, filter: &str) -> Option<String> {
        targets::hint(filter, &self.0.service)
    }

    /// Logs the ignored variables and the destination of the export.
    pub(super) fn report(&self, known: &[String]) {
        for warning in self.0.warnings.iter().filter(|new| !known.contains(new)) {
            tracing::warn!(warning, "variable ignored");
        }
        if let Some(export) = &self.0.export {
            tracing::info!(destination = export.destination, "log lines are exported");
        }
    }

    /// Exports the queued lines and returns after at most `bound`.
    pub(super) async fn flush_export(&self, bound: Duration) {
        if let Some(export) = &self.0.export {
            export.flush(bound).await;
        }
    }

    /// Waits until all lines are written, for at most `bound`.
    pub fn flush(&self, bound: Duration) {
        // After the bound nothing more can be done.
        let _complete = self.0.sink.flush(bound);
    }

    /// Whether request lines are enabled.
    #[must_use]
    pub fn wants_requests(&self) -> bool {
        self.0.request_lines.load(Ordering::Relaxed)
    }

    /// Writes a request line.
    pub fn request(&self, line: &RequestLine<'_>) {
        let inner = &*self.0;
        let (head, ids) = (line.facts.head(), line.facts.ids());
        if let Some(export) = &inner.export {
            export.push(&head, Some(ids), Some(line.request_id), line);
        }
        if inner.sink.push_request(line) {
            inner.count(head.level);
        }
    }

    fn event(
        &self,
        head: &LineHeader<'_>,
        ids: Option<TraceIds>,
        request_id: Option<&str>,
        event: &Event<'_>,
    ) {
        let inner = &*self.0;
        if let Some(export) = &inner.export {
            export.push(head, ids, request_id, event);
        }
        let mut out = Vec::with_capacity(EVENT_CAPACITY);
        inner.format.write(&mut out, head, ids, request_id, event);
        // Warnings and errors are written without waiting for a batch.
        let taken = inner.sink.push(&out, head.level <= Level::WARN);
        if taken {
            inner.count(head.level);
        }
    }
}

impl Inner {
    fn count(&self, level: Level) {
        if let Some(at) = LEVELS.iter().position(|known| *known == level) {
            self.written[at].inc();
        }
    }
}

impl Format {
    fn write(
        self,
        out: &mut Vec<u8>,
        head: &LineHeader<'_>,
        ids: Option<TraceIds>,
        request_id: Option<&str>,
        line: &impl Line,
    ) {
        match self {
            Self::Json => {
                let mut json = json::Json::open(out, head, ids, request_id);
                line.write(&mut json);
                json.close();
            }
            Self::Pretty { colours } => pretty::write(out, head, ids, colours, line),
        }
    }
}

/// The filter that a text means for this service.
fn parse_filter(text: &str, service: &Service) -> Result<EnvFilter, ParseError> {
    targets::widen(text, service).parse()
}

/// Whether a filter enables request lines. Evaluated by the filter itself.
fn passes_request_line(filter: &str) -> bool {
    let Ok(filter) = filter.parse::<EnvFilter>() else {
        return true;
    };
    let subscriber = tracing_subscriber::registry().with(filter);
    tracing::subscriber::with_default(
        subscriber,
        || tracing::enabled!(target: REQUEST, Level::INFO),
    )
}

/// Writes events to the log.
struct LogLayer {
    logs: Logs,
    correlate: Correlate,
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let metadata = event.metadata();
        let head = LineHeader {
            at: system_time(),
            level: *metadata.level(),
            message: message.0.as_deref().unwrap_or_default(),
            target: metadata.target(),
            members: None,
        };
        (self.correlate)(&mut |work| {
            let request_id = work.map(|work| work.request_id);
            self.logs
                .event(&head, TraceIds::current(work), request_id, event);
        });
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::passes_request_line;

    #[test]
    fn the_filter_applies_to_request_lines() {
        assert!(passes_request_line("info"));
        assert!(passes_request_line("warn,request=info"));
        assert!(!passes_request_line("warn"));
        assert!(!passes_request_line("info,request=off"));
    }
}
