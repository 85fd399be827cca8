//! Variables about batches and timeouts, for spans and log lines.

use std::time::{Duration, Instant};

use super::super::sink::Sink;
use super::super::{get, logging_to};
use super::PING;
use crate::support::{Builder, Samples, Service, eventually};

const NEVER: &str = "3600000";
/// Prefix of the variables and name of the counter for each signal.
const SIGNALS: [(&str, &str); 2] = [
    ("OTEL_BSP_", "trace_spans_total"),
    ("OTEL_BLRP_", "log_export_total"),
];

/// A service that exports full batches only, with long timeouts.
fn full_batches_only(sink: &Sink) -> Builder {
    let mut builder = logging_to(sink).env("OTEL_EXPORTER_OTLP_TIMEOUT", NEVER);
    for (prefix, _) in SIGNALS {
        builder = builder
            .env(&format!("{prefix}SCHEDULE_DELAY"), NEVER)
            .env(&format!("{prefix}EXPORT_TIMEOUT"), NEVER);
    }
    builder
}

async fn ping(service: &Service, times: usize) {
    for _ in 0..times {
        assert_eq!(get(service, PING, &[]).await.status, 200);
    }
}

fn count(metrics: &Samples, family: &str, outcome: &str) -> f64 {
    metrics.get(family, &[("outcome", outcome)]).unwrap()
}

#[tokio::test]
async fn a_batch_is_exported_after_its_delay() {
    const ROUNDS: usize = 15;
    // The default delays of five seconds and one second would be too long for the test.
    const BOUND: Duration = Duration::from_secs(9);
    for (prefix, _) in SIGNALS {
        let sink = Sink::start();
        let delay = format!("{prefix}SCHEDULE_DELAY");
        let service = full_batches_only(&sink).env(&delay, "20").start().await;
        let began = Instant::now();
        for _ in 0..ROUNDS {
            let answer = get(&service, PING, &[]).await;
            let id = Some(answer.request_id());
            eventually("the request at the collector", async || {
                let span = |span: &super::ReceivedSpan| span.text("request.id").as_deref() == id;
                let line = |line: &super::Line| line.text("request_id").as_deref() == id;
                let arrived = if prefix == "OTEL_BSP_" {
                    sink.spans().iter().any(span)
                } else {
                    sink.lines().iter().any(line)
                };
                arrived.then_some(())
            })
            .await;
        }
        let took = began.elapsed();
        assert!(took < BOUND, "{delay}: {took:?}");
        let (spans, lines) = (sink.spans().len(), sink.lines().len());
        let other = if prefix == "OTEL_BSP_" { lines } else { spans };
        assert_eq!(other, 0, "the other signal has a delay of its own");
    }
}

/// The largest batches of spans and of log lines after five requests.
async fn largest(set: Option<&str>) -> [usize; 2] {
    let sink = Sink::start();
    let mut builder = full_batches_only(&sink);
    if let Some(prefix) = set {
        builder = builder.env(&format!("{prefix}MAX_EXPORT_BATCH_SIZE"), "2");
    }
    let mut service = builder.start().await;
    ping(&service, 5).await;
    assert_eq!(service.terminate().await, Some(0));
    assert_eq!(sink.spans().len(), 5);
    sink.batches()
        .map(|sizes| sizes.into_iter().max().unwrap_or(0))
}

#[tokio::test]
async fn the_batch_size_is_limited() {
    let [spans, lines] = largest(None).await;
    assert!(spans == 5 && lines >= 5, "{spans} {lines}");
    let [spans, lines] = largest(Some("OTEL_BSP_")).await;
    assert!(spans == 2 && lines >= 5, "{spans} {lines}");
    let [spans, lines] = largest(Some("OTEL_BLRP_")).await;
    assert!(spans == 5 && lines == 2, "{spans} {lines}");
}

#[tokio::test]
async fn a_full_queue_drops_items() {
    for set in [None, Some(0), Some(1)] {
        let sink = Sink::slow(Duration::from_hours(1));
        let mut builder = full_batches_only(&sink).env("APP__TELEMETRY__FLUSH_TIMEOUT", "100ms");
        if let Some(signal) = set {
            let (prefix, _) = SIGNALS[signal];
            builder = builder.env(&format!("{prefix}MAX_QUEUE_SIZE"), "2");
        }
        let mut service = builder.start().await;
        ping(&service, 10).await;
        if let Some(signal) = set {
            let (prefix, family) = SIGNALS[signal];
            eventually(&format!("drops by {prefix}"), async || {
                let metrics = service.metrics().await;
                (count(&metrics, family, "dropped") > 0.0).then_some(())
            })
            .await;
        }
        let metrics = service.metrics().await;
        for (signal, (_, family)) in SIGNALS.into_iter().enumerate() {
            if set != Some(signal) {
                assert_eq!(count(&metrics, family, "dropped"), 0.0, "{set:?} {family}");
            }
        }
        assert_eq!(service.terminate().await, Some(0));
    }
}

/// Whether exports of spans and log lines fail if the collector takes a second.
async fn failures(protocol: &str, set: Option<&str>) -> [bool; 2] {
    let sink = Sink::slow(Duration::from_secs(1));
    let mut builder = full_batches_only(&sink)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("APP__TELEMETRY__FLUSH_TIMEOUT", "100ms");
    for (prefix, _) in SIGNALS {
        builder = builder.env(&format!("{prefix}SCHEDULE_DELAY"), "20");
    }
    if let Some(name) = set {
        builder = builder.env(name, "100");
    }
    let mut service = builder.start().await;
    ping(&service, 1).await;
    let failed = eventually("the first exports", async || {
        let metrics = service.metrics().await;
        let fate = |outcome| SIGNALS.map(|(_, family)| count(&metrics, family, outcome) > 0.0);
        let (failed, exported) = (fate("failed"), fate("exported"));
        let known = (0..2).all(|signal| failed[signal] || exported[signal]);
        known.then_some(failed)
    })
    .await;
    assert_eq!(service.terminate().await, Some(0));
    failed
}

const TIMEOUTS: [(Option<&str>, [bool; 2]); 6] = [
    (None, [false, false]),
    (Some("OTEL_EXPORTER_OTLP_TIMEOUT"), [true, true]),
    (Some("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"), [true, false]),
    (Some("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"), [false, true]),
    (Some("OTEL_BSP_EXPORT_TIMEOUT"), [true, false]),
    (Some("OTEL_BLRP_EXPORT_TIMEOUT"), [false, true]),
];

#[tokio::test]
async fn an_export_by_http_times_out() {
    for (set, expected) in TIMEOUTS {
        assert_eq!(failures("http/protobuf", set).await, expected, "{set:?}");
    }
}

#[tokio::test]
async fn an_export_by_grpc_times_out() {
    for (set, expected) in TIMEOUTS {
        assert_eq!(failures("grpc", set).await, expected, "{set:?}");
    }
}
