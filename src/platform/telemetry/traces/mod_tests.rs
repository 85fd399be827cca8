use super::*;
use crate::platform::db::{Config as DbConfig, Database, DbError, DbMetrics};
use crate::platform::settings::{Layers, Reader};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceState};
use tracing_subscriber::layer::SubscriberExt as _;

fn reader(variables: &[(&str, &str)]) -> Reader {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let nowhere = std::path::Path::new("/nonexistent");
    Reader::new(Layers::load(nowhere, nowhere, variables))
}

/// Traces whose queue keeps everything: the next export is an hour away.
fn keeping() -> Traces {
    let variables = [
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let metrics = TelemetryMetrics::register(&prometheus::Registry::new()).unwrap();
    let config = Config::read(&mut reader(&[]));
    Traces::start(&config, &variables.into_iter().collect(), &metrics).unwrap()
}

fn ended(traces: &Traces) -> Vec<SpanData> {
    traces.0.export.as_ref().unwrap().queue.waiting()
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

#[cfg(feature = "sqlite")]
async fn query(span: SpanContext) {
    let mut reader = reader(&[("DATABASE_URL", "sqlite::memory:")]);
    let metrics = DbMetrics::register(&prometheus::Registry::new()).unwrap();
    let config = DbConfig::read(&mut reader);
    let Ok(Database::Sqlite(db)) = Database::new(&config, Arc::new(metrics)) else {
        panic!("SQLite");
    };
    let work = async {
        tokio::task::yield_now().await;
        Ok::<(), DbError>(())
    };
    let _request = context_of(span, &Context::new()).attach();
    db.run("find_account", work).await.unwrap();
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_query_of_a_sampled_request_is_a_child_of_its_server_span() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    query(request(true)).await;
    let [span] = &ended(&traces)[..] else {
        panic!("one span: {:?}", ended(&traces));
    };
    assert_eq!(span.name, "find_account");
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.parent_span_id, SpanId::from_bytes([8; 8]));
    assert_eq!(span.span_context.trace_id(), TraceId::from_bytes([7; 16]));
    let attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| format!("{}={}", attribute.key, attribute.value))
        .collect();
    assert_eq!(
        attributes,
        ["db.system.name=sqlite", "db.operation.name=find_account"]
    );
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_query_of_an_unsampled_request_has_no_span() {
    let traces = keeping();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _installed = tracing::subscriber::set_default(subscriber);
    query(request(false)).await;
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
