//! Log lines: for people in development, one JSON object a line elsewhere.
//!
//! Two things write here: `tracing` events through [`LogLayer`], and the request
//! line directly from what it says, which costs a tenth of an event and is formatted by
//! the thread that writes it. Both go through one filter, one format and one [`sink`];
//! and by OTLP, when that is asked for.

mod batch;
mod before;
mod json;
mod line;
mod otlp;
mod panics;
mod pretty;
mod request;
mod sink;
mod targets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use prometheus::IntCounter;
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

pub use before::{json_line, panics_as_json};
use line::{Head, Ids, Line, Message};
use otlp::Otlp;
pub use panics::{Panicked, panic_message};
pub use request::{FIELDS as REQUEST_LINE, RequestFacts, RequestLine};
use sink::Sink;

/// Target of the request line, for filters (`request=off`).
pub const REQUEST: &str = "request";

const LEVELS: [Level; 5] = [
    Level::ERROR,
    Level::WARN,
    Level::INFO,
    Level::DEBUG,
    Level::TRACE,
];

/// There is one standard output, and one log on it.
static LOGS: OnceLock<Logs> = OnceLock::new();

/// The process's log.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

/// What lines look like.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Pretty { colours: bool },
}

/// Puts another filter in place; hides the type of the subscriber.
type Reload = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

struct Inner {
    service: Service,
    format: Format,
    sink: Sink,
    otlp: Option<Otlp>,
    /// What the configuration had to ignore; logged once the log stands.
    warnings: Vec<String>,
    /// By position in [`LEVELS`].
    written: [IntCounter; LEVELS.len()],
    /// Whether the filter lets the request line pass.
    request_lines: AtomicBool,
    reload: OnceLock<Reload>,
}

/// Installs the process's logger, and the layer that makes spans of sampled work.
///
/// # Errors
/// When one is installed already.
pub(super) fn start(
    config: &Config,
    variables: &BTreeMap<String, String>,
    metrics: &TelemetryMetrics,
    traces: &Traces,
    correlate: Correlate,
) -> anyhow::Result<Logs> {
    let filter = parse_filter(&config.log_filter, &traces.service())?;
    let (otlp, warnings) = Otlp::start(variables, traces, &metrics.log_exports)?;
    let out = std::io::stdout();
    // The informal standard of no-color.org; a matter of the terminal, not of the service.
    #[allow(clippy::disallowed_methods)]
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
        otlp,
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

/// Writes what is buffered, at most as long as `bound`: the last act of a process
/// that leaves without coming back to `main`.
pub fn flush(bound: Duration) {
    if let Some(logs) = LOGS.get() {
        logs.flush(bound);
    }
}

impl Logs {
    /// Replaces the filter of the running process.
    ///
    /// # Errors
    /// When the text is no filter; nothing changes then.
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

    /// What to say about a filter that names a target which no line has.
    #[must_use]
    pub fn hint(&self, filter: &str) -> Option<String> {
        targets::hint(filter, &self.0.service)
    }

    /// Says what was ignored, and where lines go besides standard output.
    pub(super) fn report(&self, known: &[String]) {
        for warning in self.0.warnings.iter().filter(|new| !known.contains(new)) {
            tracing::warn!(warning, "a variable is ignored");
        }
        if let Some(otlp) = &self.0.otlp {
            tracing::info!(destination = otlp.destination, "log lines are exported");
        }
    }

    /// Exports what waits, and is back after `bound` whatever the collector does.
    pub(super) async fn flush_export(&self, bound: Duration) {
        if let Some(otlp) = &self.0.otlp {
            otlp.flush(bound).await;
        }
    }

    /// Waits until everything is written, at most as long as `bound`.
    pub fn flush(&self, bound: Duration) {
        // Beyond the bound nothing can be done, and there is nobody left to tell.
        let _complete = self.0.sink.flush(bound);
    }

    /// Whether the lines of requests are wanted.
    #[must_use]
    pub fn wants_requests(&self) -> bool {
        self.0.request_lines.load(Ordering::Relaxed)
    }

    /// Writes the line of a request.
    pub fn request(&self, line: &RequestLine<'_>) {
        let inner = &*self.0;
        let (head, ids) = (line.facts.head(), line.facts.ids());
        if let Some(otlp) = &inner.otlp {
            otlp.push(&head, Some(ids), Some(line.request_id), line);
        }
        if inner.sink.push_request(line) {
            inner.count(head.level);
        }
    }

    fn event(
        &self,
        head: &Head<'_>,
        ids: Option<Ids>,
        request_id: Option<&str>,
        event: &Event<'_>,
    ) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let inner = &*self.0;
        if let Some(otlp) = &inner.otlp {
            otlp.push(head, ids, request_id, event);
        }
        let write = |out: &mut Vec<u8>| {
            inner.format.write(out, head, ids, request_id, event);
            // Warnings and errors do not wait for company.
            inner.sink.push(out, head.level <= Level::WARN)
        };
        let taken = LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => {
                line.clear();
                write(&mut line)
            }
            // A value logs while it is being written.
            Err(_) => write(&mut Vec::new()),
        });
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
        head: &Head<'_>,
        ids: Option<Ids>,
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

/// Whether a filter lets the request line pass, asked of the filter itself.
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

/// Writes events.
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
        #[allow(clippy::disallowed_methods)]
        let head = Head {
            at: SystemTime::now(),
            level: *metadata.level(),
            message: message.0.as_deref().unwrap_or_default(),
            target: metadata.target(),
            members: None,
        };
        (self.correlate)(&mut |work| {
            let request_id = work.map(|work| work.request_id);
            self.logs
                .event(&head, Ids::current(work), request_id, event);
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
    fn the_request_line_obeys_the_filter() {
        assert!(passes_request_line("info"));
        assert!(passes_request_line("warn,request=info"));
        assert!(!passes_request_line("warn"));
        assert!(!passes_request_line("info,request=off"));
    }
}
