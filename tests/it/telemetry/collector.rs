//! Collectors over both protocols, reachable and unreachable.

use std::time::{Duration, Instant};

use super::{exporting, get, sink::Sink};
use crate::support::raw_http::free_address;
use crate::support::{Backend, Service, eventually};

#[tokio::test]
async fn the_span_of_the_last_request_arrives_at_shutdown() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert!(sink.spans().is_empty());
    assert_eq!(service.terminate().await, Some(0));
    sink.span_of(answer.request_id()).await;
    let (path, headers) = &sink.exports()[0];
    assert_eq!(path, "/v1/traces");
    assert_eq!(headers["x-team"], "a b");
}

#[tokio::test]
async fn the_endpoint_for_traces_is_not_extended() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            format!("{}/as/it/is", sink.url()),
        )
        .start()
        .await;
    get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    assert_eq!(sink.exports()[0].0, "/as/it/is");
}

#[tokio::test]
async fn spans_arrive_by_grpc() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a")
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    let span = sink.span_of(answer.request_id()).await;
    assert_eq!(span.span.name, "GET /api/v1/ping");
    let (path, headers) = &sink.exports()[0];
    assert!(path.ends_with("TraceService/Export"), "{path}");
    assert_eq!(headers["x-team"], "a");
}

#[tokio::test]
async fn exports_are_compressed_if_configured() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    sink.span_of(answer.request_id()).await;
    assert_eq!(sink.exports()[0].1["x-encoding"], "gzip");
}

#[tokio::test]
async fn received_spans_count_as_exported() {
    let sink = Sink::start();
    let service = exporting(&sink).start().await;
    for _ in 0..3 {
        get(&service, "/api/v1/ping", &[]).await;
    }
    eventually("three exported spans", async || {
        let metrics = service.metrics().await;
        let exported = metrics.get("trace_spans_total", &[("outcome", "exported")]);
        (exported == Some(3.0)).then_some(())
    })
    .await;
}

/// Accepts connections into its backlog and never answers.
struct BlackHole(std::net::TcpListener);

impl BlackHole {
    fn new() -> Self {
        Self(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_only_spans() {
    for protocol in ["http/protobuf", "grpc"] {
        let hole = BlackHole::new();
        let began = Instant::now();
        let mut service = Service::builder(Backend::Sqlite)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", hole.url())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "4")
            .env("APP__TELEMETRY__FLUSH_TIMEOUT", "500ms")
            // With one worker thread, blocking on the collector would stop the service.
            .env("TOKIO_WORKER_THREADS", "1")
            .start()
            .await;
        let started = began.elapsed();
        assert!(started < Duration::from_secs(5), "start took {started:?}");
        for _ in 0..20 {
            let answer = get(&service, "/api/v1/ping", &[]).await;
            assert_eq!(answer.status, 200);
        }
        eventually("failed and dropped spans", async || {
            let metrics = service.metrics().await;
            let outcome = |outcome| metrics.get("trace_spans_total", &[("outcome", outcome)]);
            (outcome("failed")? > 0.0 && outcome("dropped")? > 0.0).then_some(())
        })
        .await;
        get(&service, "/api/v1/ping", &[]).await;
        let began = Instant::now();
        assert_eq!(service.terminate().await, Some(0));
        let ended = began.elapsed();
        assert!(ended < Duration::from_secs(3), "the end took {ended:?}");
        let warned = service.logs().iter().any(|line| {
            line["level"] == "warn" && line["message"] == "the collector does not accept spans"
        });
        assert!(warned, "the outage is in the log");
    }
}

#[tokio::test]
async fn an_unreachable_collector_counts_as_failed_and_is_logged() {
    let address = free_address();
    let mut service = Service::builder(Backend::Sqlite)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .start()
        .await;
    get(&service, "/api/v1/ping", &[]).await;
    eventually("a failed span", async || {
        let metrics = service.metrics().await;
        let failed = metrics.get("trace_spans_total", &[("outcome", "failed")]);
        (failed == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(service.terminate().await, Some(0));
    let lines = service.logs();
    let mut errors = lines.iter().filter_map(|line| {
        (line["message"] == "the collector does not accept spans")
            .then(|| line["error"].as_str())?
    });
    let error = errors.next().unwrap();
    assert!(error.contains("Connection refused"), "{error}");
    assert_eq!(errors.next(), None, "it is logged once");
}

#[tokio::test]
async fn invalid_variables_are_ignored_with_a_warning() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_TRACES_SAMPLER", "sometimes")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "many")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "zip")
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "secret-not-a-url")
        .start()
        .await;
    get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    assert_eq!(sink.spans().len(), 1);
    let warnings: Vec<String> = service
        .logs()
        .iter()
        .filter(|line| line["level"] == "warn")
        .filter_map(|line| line["warning"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(!service.stdout().join("\n").contains("secret-not"));
}

#[tokio::test]
async fn variables_without_effect_are_named_in_warnings() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://secret")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.5")
        .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", "secret.key")
        .env("OTEL_LOGS_EXPORTER", "console")
        .env("OTEL_EXPORTER_OTLP_ENDPIONT", "secret")
        // This value describes the built-in behaviour.
        .env("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")
        .env("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1000")
        .start()
        .await;
    assert_eq!(service.terminate().await, Some(0));
    let logs = service.logs();
    let mut named: Vec<&str> = logs
        .iter()
        .filter(|line| line["message"] == "variable ignored")
        .filter_map(|line| line["warning"].as_str()?.split(' ').next())
        .collect();
    named.sort_unstable();
    let expected = [
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_ENDPIONT",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_LOGS_EXPORTER",
        "OTEL_METRICS_EXPORTER",
        "OTEL_TRACES_SAMPLER_ARG",
    ];
    assert_eq!(named, expected);
    assert!(!service.stdout().join("\n").contains("secret"));
}
