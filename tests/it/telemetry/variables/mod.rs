//! A table test of all supported `OTEL_*` variables: the exports with a variable differ from those
//! without it.
//!
//! Each row must hold with its variables and fail without them.

mod batches;
mod rows;
mod tls;

use std::collections::BTreeMap;

use http::HeaderMap;
use serde_json::json;

use super::sink::{Line, ReceivedSpan, Sink};
use crate::support::{Backend, Service};

type Variables = &'static [(&'static str, &'static str)];

/// A row: variables and their effect.
struct Row {
    /// Variables that are set in both runs. `{sink}` is the URL of the collector, `{at}` its
    /// address.
    given: Variables,
    /// The variables of the row.
    set: Variables,
    /// The condition that holds only with the variables.
    holds: fn(&ServiceRun) -> bool,
}

/// The exports of one run of a service.
struct ServiceRun {
    spans: Vec<ReceivedSpan>,
    lines: Vec<Line>,
    /// Path and headers of the span exports.
    traces: Vec<(String, HeaderMap)>,
    /// Path and headers of the log exports.
    logs: Vec<(String, HeaderMap)>,
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const STRANGER: (&str, &str) = ("x-forwarded-for", "203.0.113.9");
const PING: &str = "/api/v1/ping";

/// Runs a service with these requests: one without a parent, a sampled and an unsampled one of a
/// trusted caller, one of an untrusted client, and one that panics.
async fn run_service(variables: &[Variables]) -> ServiceRun {
    let sink = Sink::start();
    let mut builder = Service::builder(Backend::Sqlite)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
        .env("APP__TELEMETRY__LATE_SPANS_PER_SECOND", "0")
        .env("APP__TELEMETRY__FLUSH_TIMEOUT", "3s");
    for (name, value) in variables.iter().copied().flatten() {
        let value = value.replace("{sink}", &sink.url());
        builder = builder.env(name, value.replace("{at}", &sink.address().to_string()));
    }
    let mut service = builder.start().await;
    for (id, headers) in [
        ("alone", &[][..]),
        ("sampled", &[("traceparent", SAMPLED)]),
        ("unsampled", &[("traceparent", UNSAMPLED)]),
        ("stranger", &[("traceparent", SAMPLED), STRANGER]),
    ] {
        let named = [headers, &[("x-request-id", id)]].concat();
        assert_eq!(super::get(&service, PING, &named).await.status, 200);
    }
    let fault = json!({"path": PING, "panic": true});
    let fault = service.client.put(service.admin("/faults")).json(&fault);
    assert_eq!(fault.send().await.unwrap().status(), 200);
    let named = [("x-request-id", "failed")];
    assert_eq!(super::get(&service, PING, &named).await.status, 500);
    assert_eq!(service.terminate().await, Some(0));
    let (logs, traces) = sink
        .exports()
        .into_iter()
        .partition(|(path, _)| path.to_lowercase().contains("logs"));
    ServiceRun {
        spans: sink.spans(),
        lines: sink.lines(),
        traces,
        logs,
    }
}

/// Checks all rows with and without their variables and reports all failures.
async fn check_rows(rows: &[Row]) {
    let mut without = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows {
        if !without.contains_key(row.given) {
            without.insert(row.given, run_service(&[row.given]).await);
        }
        if (row.holds)(&without[row.given]) {
            wrong.push(format!("{:?} holds without it", row.set));
        }
        if !(row.holds)(&run_service(&[row.given, row.set]).await) {
            wrong.push(format!("{:?} does not hold", row.set));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl ServiceRun {
    fn both(&self) -> bool {
        !self.spans.is_empty() && !self.lines.is_empty()
    }

    /// Whether all exports have this resource attribute.
    fn resource(&self, name: &str, value: &str) -> bool {
        let all = |found: Option<String>| found.as_deref() == Some(value);
        self.both()
            && self.spans.iter().all(|span| all(span.resource(name)))
            && self.lines.iter().all(|line| all(line.resource(name)))
    }

    fn span(&self, request_id: &str) -> Option<&ReceivedSpan> {
        self.spans
            .iter()
            .find(|span| span.text("request.id").as_deref() == Some(request_id))
    }

    /// Request ids of the server spans, in the order of the requests.
    fn sampled(&self) -> Vec<&'static str> {
        ["alone", "sampled", "unsampled", "stranger", "failed"]
            .into_iter()
            .filter(|id| self.span(id).is_some())
            .collect()
    }

    /// The greatest number of attributes of a span and of a log line.
    fn attributes(&self) -> (usize, usize) {
        let spans = self.spans.iter().map(|span| span.span.attributes.len());
        let lines = self.lines.iter().map(|line| line.record.attributes.len());
        (spans.max().unwrap_or(0), lines.max().unwrap_or(0))
    }

    /// The longest text attribute of spans and of log lines.
    fn longest(&self) -> (usize, usize) {
        let spans = self.spans.iter().flat_map(|span| &span.span.attributes);
        let lines = self.lines.iter().flat_map(|line| &line.record.attributes);
        (longest(spans), longest(lines))
    }
}

fn longest<'a>(
    attributes: impl Iterator<Item = &'a opentelemetry_proto::tonic::common::v1::KeyValue>,
) -> usize {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    attributes
        .filter_map(
            |attribute| match attribute.value.as_ref()?.value.as_ref()? {
                Value::StringValue(text) => Some(text.chars().count()),
                _ => None,
            },
        )
        .max()
        .unwrap_or(0)
}
