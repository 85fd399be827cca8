use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceState};
use settings::clock::system_time;
use settings::{Layers, Reader};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::service::tests::SERVICE;

impl Traces {
    /// Traces with these variables and default values.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let metrics = TelemetryMetrics::register(&prometheus::Registry::new()).unwrap();
        let nowhere = std::path::Path::new("/nonexistent");
        let config = Config::read(&mut Reader::new(Layers::load(nowhere, nowhere, [])));
        Self::start(SERVICE, &config, &variables, &metrics).unwrap()
    }
}

/// Traces that keep all spans in the queue: the next export is an hour away.
fn keeping() -> Traces {
    Traces::with(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ])
}

fn ended(traces: &Traces) -> Vec<SpanData> {
    let queue = &traces.0.export.as_ref().unwrap().spans.queue;
    queue
        .take_all()
        .into_iter()
        .map(|ended| ended.span)
        .collect()
}

fn request(sampled: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes([7; 16]),
        SpanId::from_bytes([8; 8]),
        TraceFlags::default().with_sampled(sampled),
        false,
        TraceState::default(),
    )
}

fn now() -> (SystemTime, Instant) {
    (system_time(), Instant::now())
}

#[test]
fn inner_spans_are_children_of_their_request() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    let _request = request_context(request(true), &Context::new(), now()).attach();
    assert_eq!(sampled(), Some(TraceId::from_bytes([7; 16])));
    tracing::info_span!("query", otel.name = "find", otel.kind = "client").in_scope(|| ());
    let ended = ended(&traces);
    let [span] = &ended[..] else {
        panic!("one span: {ended:?}");
    };
    assert_eq!(span.name, "find");
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.parent_span_id, SpanId::from_bytes([8; 8]));
    assert_eq!(span.span_context.trace_id(), TraceId::from_bytes([7; 16]));
    assert!(span.attributes.is_empty(), "{:?}", span.attributes);
}

#[test]
fn an_unsampled_request_has_no_inner_spans() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    let _request = request_context(request(false), &Context::new(), now()).attach();
    assert_eq!(sampled(), None);
    tracing::info_span!("query").in_scope(|| ());
    assert!(ended(&traces).is_empty());
}

#[test]
fn spans_of_other_crates_are_not_exported() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "h2::client", "connection").in_scope(|| ());
        tracing::debug_span!("too fine").in_scope(|| ());
        tracing::info_span!("own").in_scope(|| tracing::info!("an event"));
    });
    let spans = ended(&traces);
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["own"]);
    assert!(spans[0].events.is_empty(), "events are lines");
}

/// The wall clock was stepped after the start of the request, so the request's clock and the
/// system's clock differ.
#[test]
fn a_step_of_the_wall_clock_does_not_affect_spans_of_a_request() {
    const STEP: Duration = Duration::from_hours(24);
    for forward in [true, false] {
        let traces = keeping();
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        let _installed = tracing::subscriber::set_default(subscriber);
        let (real, began) = now();
        let started = if forward { real - STEP } else { real + STEP };
        let request = request_context(request(true), &Context::new(), (started, began)).attach();
        let outer = tracing::info_span!("outer");
        outer.in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
        drop((outer, request));
        let request_ended = started + began.elapsed();
        let mut ended = ended(&traces);
        // Sorted by time only.
        ended.sort_by_key(|span| span.start_time);
        let names: Vec<_> = ended.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["outer", "inner"]);
        let times = [
            started,
            ended[0].start_time,
            ended[1].start_time,
            ended[1].end_time,
            ended[0].end_time,
            request_ended,
        ];
        assert!(times.is_sorted(), "forward: {forward}, {times:?}");
    }
}

#[test]
fn a_root_span_reads_the_clock_and_ends_when_it_is_left() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    let past = SystemTime::UNIX_EPOCH;
    let began = Instant::now();
    let _request = request_context(request(true), &Context::new(), (past, began)).attach();
    let before = system_time();
    let root = tracing::info_span!(parent: None, "run");
    root.in_scope(|| ());
    let left = Instant::now();
    while left.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    drop(root);
    let ended = ended(&traces);
    let run = &ended[0];
    assert!(run.start_time >= before, "{run:?}");
    let took = run.end_time.duration_since(run.start_time).unwrap();
    assert!(took <= left - began, "{took:?}");
}

#[test]
fn a_span_ends_with_its_work_while_others_hold_it() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    let before = Instant::now();
    let span = tracing::info_span!("query");
    drop(SpanEnd(&span));
    let done = before.elapsed();
    while before.elapsed() < done + Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    span.in_scope(|| ());
    drop(span);
    let span = ended(&traces).remove(0);
    let took = span.end_time.duration_since(span.start_time).unwrap();
    assert!(took <= done, "{took:?}");
}
