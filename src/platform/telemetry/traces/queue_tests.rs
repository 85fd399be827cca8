use super::*;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
use std::time::SystemTime;

#[derive(Debug)]
enum Collector {
    Answers,
    Refuses,
    Hangs,
}

impl SpanExporter for Collector {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        match self {
            Self::Answers => Ok(()),
            Self::Refuses => Err(OTelSdkError::InternalFailure("no".to_owned())),
            Self::Hangs => std::future::pending().await,
        }
    }
}

fn span() -> SpanData {
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "x".into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: vec![KeyValue::new("a", "12345"), KeyValue::new("b", "2")],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

fn queue(capacity: usize) -> Queue {
    let metrics = TelemetryMetrics::register(&prometheus::Registry::new()).unwrap();
    let batch = Batch {
        delay: Duration::from_hours(1),
        timeout: Duration::from_hours(1),
        queue: capacity,
        size: capacity,
    };
    let limits = SpanLimits {
        max_attributes_per_span: 1,
        ..SpanLimits::default()
    };
    Queue::new(batch, limits, Some(3), Outcomes::new(&metrics))
}

/// Exported, late, dropped, failed.
fn counts(queue: &Queue) -> [u64; 4] {
    let outcomes = &queue.0.outcomes;
    [
        outcomes.exported.get(),
        outcomes.late.get(),
        outcomes.dropped.get(),
        outcomes.failed.get(),
    ]
}

async fn after_the_end(collector: Collector, bound: Duration) -> [u64; 4] {
    let queue = queue(3);
    for late in [false, true, false, false] {
        queue.push(span(), late);
    }
    let worker = Worker::start(queue.clone(), || Some(collector)).unwrap();
    worker.stop(bound).await;
    queue.push(span(), false);
    counts(&queue)
}

#[tokio::test]
async fn every_span_ends_in_one_count() {
    let long = Duration::from_secs(30);
    assert_eq!(after_the_end(Collector::Answers, long).await, [2, 1, 2, 0]);
    assert_eq!(after_the_end(Collector::Refuses, long).await, [0, 0, 2, 3]);
}

#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_the_end_up() {
    let began = std::time::Instant::now();
    let counts = after_the_end(Collector::Hangs, Duration::from_millis(50)).await;
    assert_eq!(counts, [0, 0, 2, 3]);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn limits_hold_for_spans_that_the_sdk_did_not_make() {
    let queue = queue(1);
    queue.push(span(), false);
    let kept = queue.take_batch().remove(0).span;
    assert_eq!(kept.attributes, [KeyValue::new("a", "123")]);
    assert_eq!(kept.dropped_attributes_count, 1);
}
