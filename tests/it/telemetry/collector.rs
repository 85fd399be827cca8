//! Collectors: reached by either protocol, and in every state of disrepair.

use std::time::{Duration, Instant};

use super::{exporting, get, sink::Sink};
use crate::support::{Backend, Service, eventually};

#[tokio::test]
async fn the_last_requests_span_arrives_by_http_at_the_end() {
    let sink = Sink::start().await;
    let mut service = exporting(&sink)
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert!(sink.spans().is_empty());
    assert_eq!(service.terminate().await, Some(0));
    sink.span_of(&answer.request_id).await;
    let (path, headers) = &sink.exports()[0];
    assert_eq!(path, "/v1/traces");
    assert_eq!(headers["x-team"], "a b");
}

#[tokio::test]
async fn an_endpoint_for_traces_is_used_as_it_is() {
    let sink = Sink::start().await;
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
    let sink = Sink::start().await;
    let mut service = exporting(&sink)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a")
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    let span = sink.span_of(&answer.request_id).await;
    assert_eq!(span.span.name, "GET /api/v1/ping");
    let (path, headers) = &sink.exports()[0];
    assert!(path.ends_with("TraceService/Export"), "{path}");
    assert_eq!(headers["x-team"], "a");
}

#[tokio::test]
async fn exports_are_compressed_when_asked() {
    let sink = Sink::start().await;
    let mut service = exporting(&sink)
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    sink.span_of(&answer.request_id).await;
    assert_eq!(sink.exports()[0].1["x-encoding"], "gzip");
}

#[tokio::test]
async fn what_arrives_is_counted_as_exported() {
    let sink = Sink::start().await;
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

/// Accepts into its backlog, and never answers.
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
async fn a_collector_that_never_answers_costs_spans_and_nothing_else() {
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
            // Whoever waits for the collector on it stops the service.
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
            line["level"] == "warn" && line["message"] == "spans do not reach the collector"
        });
        assert!(warned, "the outage is in the log");
    }
}

#[tokio::test]
async fn a_refused_collector_is_counted_as_failed_and_the_line_says_why() {
    // Free a moment ago; nobody else binds loopback ports that they did not choose.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut service = Service::builder(Backend::Sqlite)
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{port}"),
        )
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
        (line["message"] == "spans do not reach the collector").then(|| line["error"].as_str())?
    });
    let error = errors.next().unwrap();
    assert!(error.contains("Connection refused"), "{error}");
    assert_eq!(errors.next(), None, "it is told once");
}

#[tokio::test]
async fn invalid_variables_are_warned_of_and_ignored() {
    let sink = Sink::start().await;
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
async fn variables_without_effect_are_warned_of_by_name() {
    let sink = Sink::start().await;
    let mut service = exporting(&sink)
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://secret")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.5")
        .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", "secret.key")
        .env("OTEL_LOGS_EXPORTER", "console")
        .env("OTEL_EXPORTER_OTLP_ENDPIONT", "secret")
        // Says what is so anyway.
        .env("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")
        .env("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1000")
        .start()
        .await;
    assert_eq!(service.terminate().await, Some(0));
    let logs = service.logs();
    let mut named: Vec<&str> = logs
        .iter()
        .filter(|line| line["message"] == "a variable is ignored")
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
