//! Optional export of log lines by OTLP. The records are the lines of standard output after the
//! filter, and the queue and the exporter are those of spans.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TraceFlags;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use prometheus::IntCounterVec;
use prost::Message as _;
use settings::clock::system_time;
use tracing::Level;

use super::line::{Fields, LineHeader, Name, TraceIds, bounded};
use crate::otlp::{Encode, Item, Outcomes, Queue, Reader, Signal, Worker, on_exporter_thread};
use crate::traces::Traces;

/// A queued record.
#[derive(Debug)]
struct QueuedLine {
    target: &'static str,
    record: LogRecord,
}

impl Item for QueuedLine {
    const PLURAL: &'static str = "log lines";
}

/// Encodes records with the generated types: log lines are exported on request only, so that the
/// cost of the copies is accepted here. Spans have an encoder of their own.
struct LineEncoder {
    resource: ResourceAttributesWithSchema,
    scope: InstrumentationScope,
}

impl Encode<QueuedLine> for LineEncoder {
    /// The scope of a record has the name of its target, like in the exporters of the SDK.
    fn encode(&self, batch: Vec<QueuedLine>) -> Vec<u8> {
        let mut by_target = BTreeMap::<&str, Vec<LogRecord>>::new();
        for line in batch {
            let records = by_target.entry(line.target).or_default();
            records.push(line.record);
        }
        let scope_logs = by_target
            .into_iter()
            .map(|(target, log_records)| ScopeLogs {
                scope: Some((&self.scope, Some(target.to_owned().into())).into()),
                log_records,
                schema_url: String::new(),
            });
        let resource_logs = ResourceLogs {
            resource: Some(Resource {
                attributes: self.resource.attributes.0.clone(),
                ..Resource::default()
            }),
            scope_logs: scope_logs.collect(),
            schema_url: self.resource.schema_url.clone().unwrap_or_default(),
        };
        let request = ExportLogsServiceRequest {
            resource_logs: vec![resource_logs],
        };
        request.encode_to_vec()
    }
}

/// The export of log lines, if it is enabled.
pub(super) struct LineExport {
    queue: Queue<QueuedLine>,
    worker: Mutex<Option<Worker>>,
    limits: Limits,
    /// Destination of the export, for people.
    pub(super) destination: String,
}

/// `OTEL_LOGRECORD_*`.
#[derive(Clone, Copy)]
struct Limits {
    attributes: usize,
    /// In characters.
    value: Option<usize>,
}

impl LineExport {
    /// Reads the `OTEL_*` variables and starts the export that they configure. Also returns
    /// warnings about ignored variables.
    ///
    /// # Errors
    /// When the exporter thread cannot be started.
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
        let encoder = LineEncoder {
            resource: traces.resource().into(),
            scope: traces.scope(),
        };
        let service = traces.service();
        let worker = Worker::start(queue.clone(), move || {
            settings.exporter(&Signal::LOGS, encoder, &service)
        })?;
        let export = Self {
            queue,
            worker: Mutex::new(Some(worker)),
            limits,
            destination,
        };
        Ok((Some(export), read.warnings))
    }

    /// Queues a line, or counts it as dropped.
    pub(super) fn push(
        &self,
        header: &LineHeader<'_>,
        ids: Option<TraceIds>,
        request_id: Option<&str>,
        line: &impl super::Line,
    ) {
        if on_exporter_thread() {
            return;
        }
        let mut record = LogRecord {
            time_unix_nano: nanos(header.at),
            observed_time_unix_nano: nanos(system_time()),
            severity_number: severity(header.level).into(),
            severity_text: super::level_name(header.level).to_owned(),
            body: Some(string_value(bounded(header.message))),
            ..LogRecord::default()
        };
        if let Some(ids) = ids {
            let flags = TraceFlags::default().with_sampled(ids.sampled);
            record.flags = flags.to_u8().into();
            record.trace_id = ids.trace_id.to_bytes().to_vec();
            record.span_id = ids.span_id.to_bytes().to_vec();
        }
        let mut attributes = Attributes {
            list: &mut record.attributes,
            limits: self.limits,
        };
        if let Some(id) = request_id {
            attributes.text(Name::known("request_id"), id);
        }
        line.write(&mut attributes);
        self.queue.push(QueuedLine {
            target: header.target,
            record,
        });
    }

    /// Exports the queued lines and returns after at most `bound`.
    pub(super) async fn flush(&self, bound: Duration) {
        let worker = self.worker.lock();
        let worker = worker.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.stop(bound).await;
        }
    }
}

impl Limits {
    /// The variables for log records have precedence over those for all attributes.
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

/// Nanoseconds since the epoch. 64 bits last until the year 2554.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn severity(level: Level) -> SeverityNumber {
    match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    }
}

fn string_value(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text.to_owned())),
    }
}

/// Fields as attributes with the names of the JSON members.
struct Attributes<'a> {
    list: &'a mut Vec<KeyValue>,
    limits: Limits,
}

impl Attributes<'_> {
    fn add(&mut self, name: &str, value: Value) {
        if self.list.len() < self.limits.attributes {
            self.list.push(KeyValue {
                key: name.to_owned(),
                value: Some(AnyValue { value: Some(value) }),
                ..KeyValue::default()
            });
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
        self.add(name.text, Value::StringValue(value.to_owned()));
    }
    fn unsigned(&mut self, name: Name<'_>, value: u64) {
        // OTLP has signed integers only.
        self.signed(name, i64::try_from(value).unwrap_or(i64::MAX));
    }
    fn signed(&mut self, name: Name<'_>, value: i64) {
        self.add(name.text, Value::IntValue(value));
    }
    fn float(&mut self, name: Name<'_>, value: f64) {
        self.add(name.text, Value::DoubleValue(value));
    }
    fn boolean(&mut self, name: Name<'_>, value: bool) {
        self.add(name.text, Value::BoolValue(value));
    }
    fn millis(&mut self, name: Name<'_>, value: Duration) {
        // Microseconds are integers, so the decimal text of the number stays short.
        let micros = u32::try_from(value.as_micros()).unwrap_or(u32::MAX);
        self.float(name, f64::from(micros) / 1_000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_grouped_by_target_as_scope() {
        let encoder = LineEncoder {
            resource: (&opentelemetry_sdk::Resource::builder_empty().build()).into(),
            scope: InstrumentationScope::builder("service")
                .with_version("1.2.3")
                .build(),
        };
        let line = |target, text: &str| QueuedLine {
            target,
            record: LogRecord {
                body: Some(string_value(text)),
                ..LogRecord::default()
            },
        };
        let batch = vec![line("b", "1"), line("a", "2"), line("b", "3")];
        let request = ExportLogsServiceRequest::decode(&*encoder.encode(batch)).unwrap();
        let scopes = request.resource_logs[0].scope_logs.iter().map(|scope| {
            let name = scope.scope.as_ref().unwrap();
            let texts = scope.log_records.iter().map(|record| record.body.clone());
            (&*name.name, &*name.version, texts.collect::<Vec<_>>())
        });
        let text = |text| Some(string_value(text));
        let expected = [
            ("a", "1.2.3", vec![text("2")]),
            ("b", "1.2.3", vec![text("1"), text("3")]),
        ];
        assert_eq!(scopes.collect::<Vec<_>>(), expected);
    }
}
