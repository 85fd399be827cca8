//! Log lines by OTLP, when somebody asks for them: the same records that standard
//! output gets, through the same filter, by the same kind of queue as spans.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::TraceFlags;
use opentelemetry_sdk::logs::{LogBatch, SdkLogRecord, SdkLogger, SdkLoggerProvider};
use prometheus::IntCounterVec;
use tracing::Level;

use super::line::{Fields, Head, Ids, Name, bounded, name};
use crate::otlp::{
    Export, Failure, Item, LineExporter, Outcomes, Queue, Reader, Signal, Taken, Worker,
    on_exporter_thread,
};
use crate::traces::Traces;

/// A line on its way.
#[derive(Debug)]
struct Line(SdkLogRecord);

impl Item for Line {
    const PLURAL: &'static str = "log lines";
}

struct Exporter {
    inner: LineExporter,
    scope: InstrumentationScope,
}

impl Export<Line> for Exporter {
    type Error = Failure;

    async fn export(&self, batch: Vec<Line>) -> Result<Taken, Failure> {
        let records: Vec<_> = batch.iter().map(|line| (&line.0, &self.scope)).collect();
        self.inner.send(LogBatch::new(&records)).await
    }
}

/// There only when somebody wants lines by OTLP.
pub(super) struct Otlp {
    /// Makes empty records; the SDK has no other way to one.
    records: SdkLogger,
    queue: Queue<Line>,
    worker: Mutex<Option<Worker>>,
    limits: Limits,
    /// Where lines go, for people.
    pub(super) destination: String,
}

/// `OTEL_LOGRECORD_*`.
#[derive(Clone, Copy)]
struct Limits {
    attributes: usize,
    /// Characters.
    value: Option<usize>,
}

impl Otlp {
    /// Reads the `OTEL_*` variables and starts what they ask for; also gives what it
    /// had to ignore.
    ///
    /// # Errors
    /// When the thread that exports cannot be started.
    pub(super) fn start(
        variables: &BTreeMap<String, String>,
        traces: &Traces,
        family: &IntCounterVec,
    ) -> std::io::Result<(Option<Self>, Vec<String>)> {
        let outcomes = Outcomes::new(family, "exported");
        let mut read = Reader::new(variables);
        if read.boolean("OTEL_SDK_DISABLED") {
            return Ok((None, Vec::new()));
        }
        let Some(settings) = Signal::LOGS.exporter(&mut read) else {
            return Ok((None, read.warnings));
        };
        let queue = Queue::new(Signal::LOGS.batch(&mut read), outcomes);
        let limits = Limits::read(&mut read);
        let destination = settings.destination();
        let scope = traces.scope();
        let records = SdkLoggerProvider::builder()
            .build()
            .logger_with_scope(scope.clone());
        let (resource, service) = (traces.resource().clone(), traces.service());
        let worker = Worker::start(queue.clone(), move || {
            let inner = settings.lines(&resource, &service)?;
            Ok(Exporter { inner, scope })
        })?;
        let otlp = Self {
            records,
            queue,
            worker: Mutex::new(Some(worker)),
            limits,
            destination,
        };
        Ok((Some(otlp), read.warnings))
    }

    /// Takes a line, or counts it as dropped.
    #[inline(never)]
    pub(super) fn push(
        &self,
        head: &Head<'_>,
        ids: Option<Ids>,
        request_id: Option<&str>,
        line: &impl super::Line,
    ) {
        if on_exporter_thread() {
            return;
        }
        let mut record = self.records.create_log_record();
        record.set_timestamp(head.at);
        record.set_observed_timestamp(observed());
        record.set_severity_number(severity(head.level));
        record.set_severity_text(super::level_name(head.level));
        record.set_target(head.target);
        record.set_body(text(bounded(head.message)));
        if let Some(ids) = ids {
            let flags = TraceFlags::default().with_sampled(ids.sampled);
            record.set_trace_context(ids.trace_id, ids.span_id, Some(flags));
        }
        let mut attributes = Attributes {
            record: &mut record,
            limits: self.limits,
            count: 0,
        };
        if let Some(id) = request_id {
            attributes.text(name!("request_id"), id);
        }
        line.write(&mut attributes);
        self.queue.push(Line(record));
    }

    /// Sends what waits, and is back after `bound` whatever the collector does.
    pub(super) async fn flush(&self, bound: Duration) {
        let worker = self.worker.lock();
        let worker = worker.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.stop(bound).await;
        }
    }
}

impl Limits {
    /// The variable for log records wins over the one for all attributes.
    fn read(read: &mut Reader<'_>) -> Self {
        let count = read
            .number("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT")
            .or_else(|| read.number("OTEL_ATTRIBUTE_COUNT_LIMIT"));
        let value = read
            .number("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT")
            .or_else(|| read.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"));
        Self {
            attributes: count.unwrap_or(128),
            value,
        }
    }
}

#[allow(clippy::disallowed_methods)]
fn observed() -> SystemTime {
    SystemTime::now()
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

fn text(value: &str) -> AnyValue {
    AnyValue::String(value.to_owned().into())
}

/// Fields as attributes, under the names that JSON lines have.
struct Attributes<'a> {
    record: &'a mut SdkLogRecord,
    limits: Limits,
    count: usize,
}

impl Attributes<'_> {
    fn add(&mut self, name: &str, value: AnyValue) {
        if self.count < self.limits.attributes {
            self.count += 1;
            self.record.add_attribute(name.to_owned(), value);
        }
    }
}

impl Fields for Attributes<'_> {
    fn text(&mut self, name: Name<'_>, value: &str) {
        let value = bounded(value);
        let end = self
            .limits
            .value
            .and_then(|length| value.char_indices().nth(length));
        let value = end.map_or(value, |(end, _)| &value[..end]);
        self.add(name.text, text(value));
    }
    fn unsigned(&mut self, name: Name<'_>, value: u64) {
        // OTLP knows signed numbers only.
        self.add(
            name.text,
            AnyValue::Int(i64::try_from(value).unwrap_or(i64::MAX)),
        );
    }
    fn signed(&mut self, name: Name<'_>, value: i64) {
        self.add(name.text, AnyValue::Int(value));
    }
    fn float(&mut self, name: Name<'_>, value: f64) {
        self.add(name.text, AnyValue::Double(value));
    }
    fn boolean(&mut self, name: Name<'_>, value: bool) {
        self.add(name.text, AnyValue::Boolean(value));
    }
    fn millis(&mut self, name: Name<'_>, value: Duration) {
        // Microseconds are whole, so that the text of the number stays short.
        let micros = u32::try_from(value.as_micros()).unwrap_or(u32::MAX);
        self.add(name.text, AnyValue::Double(f64::from(micros) / 1_000.0));
    }
}
