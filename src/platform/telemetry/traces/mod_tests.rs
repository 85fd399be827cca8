use super::*;
use crate::platform::settings::{Layers, Reader};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceState};
use tracing_subscriber::layer::SubscriberExt as _;

impl Traces {
    /// Traces with these variables and the defaults of everything else.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let metrics = TelemetryMetrics::register(&prometheus::Registry::new()).unwrap();
        let nowhere = std::path::Path::new("/nonexistent");
        let config = Config::read(&mut Reader::new(Layers::load(nowhere, nowhere, [])));
        Self::start(&config, &variables, &metrics).unwrap()
    }
}

/// Traces whose queue keeps everything: the next export is an hour away.
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

#[test]
fn inner_spans_are_children_of_the_request_that_they_run_in() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    let _request = context_of(request(true), &Context::new()).attach();
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
    let _request = context_of(request(false), &Context::new()).attach();
    assert_eq!(sampled(), None);
    tracing::info_span!("query").in_scope(|| ());
    assert!(ended(&traces).is_empty());
}

#[test]
fn spans_of_other_crates_stay_out() {
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
