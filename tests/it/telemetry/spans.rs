//! Content of spans, and the requests that have one.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{exporting, get, request_line, sink::Sink};
use crate::support::{Backend, Service, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[tokio::test]
async fn the_resource_describes_the_sdk() {
    let sink = Sink::start();
    let service = exporting(&sink).start().await;
    let id = get(&service, "/api/v1/ping", &[]).await;
    let id = id.request_id();
    let span = sink.span_of(id).await;
    for (name, value) in [("name", "opentelemetry"), ("language", "rust")] {
        let found = span.resource(&format!("telemetry.sdk.{name}"));
        assert_eq!(found.as_deref(), Some(value));
    }
    let version = span.resource("telemetry.sdk.version").unwrap_or_default();
    assert!(
        version.starts_with(|first: char| first.is_ascii_digit()),
        "{version}"
    );
}

#[tokio::test]
async fn a_server_span_follows_the_conventions_and_agrees_with_the_log() {
    let sink = Sink::start();
    let service = exporting(&sink)
        .env("OTEL_SERVICE_NAME", "shop")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .start()
        .await;
    let agent = ("user-agent", "probe/1 (ops@example.com)");
    let answer = get(&service, "/api/v1/ping?token=canary", &[agent]).await;
    let span = sink.span_of(answer.request_id()).await;
    assert_eq!(span.span.name, "GET /api/v1/ping");
    assert_eq!(span.span.kind, 2, "SERVER");
    assert_eq!(span.parent(), "");
    assert!(!span.is_error());
    let (host, port) = service.address().split_once(':').unwrap();
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/v1/ping"),
        ("http.response.status_code", "200"),
        ("url.path", "/api/v1/ping"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("server.address", host),
        ("server.port", port),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "probe/1 (redacted)"),
    ] {
        assert_eq!(span.text(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(span.text("error.type"), None);
    assert_eq!(span.resource("service.name").as_deref(), Some("shop"));
    assert_eq!(
        span.resource("deployment.environment.name").as_deref(),
        Some("test")
    );
    assert!(span.resource("service.version").is_some());
    let line = request_line(&service, answer.request_id()).await;
    assert_eq!(line["trace_id"], span.trace_id().as_str());
    assert_eq!(line["span_id"], span.span_id().as_str());
    let everything = format!("{:?}{:?}", sink.spans(), service.stdout());
    assert!(!everything.contains("canary"), "a query string leaked");
}

#[tokio::test]
async fn http_1_0_is_reported_as_protocol_version() {
    let sink = Sink::start();
    let service = exporting(&sink).start().await;
    let mut stream = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    let request = b"GET /api/v1/ping HTTP/1.0\r\nx-request-id: old\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let span = sink.span_of("old").await;
    assert_eq!(
        span.text("network.protocol.version").as_deref(),
        Some("1.0")
    );
    let line = request_line(&service, "old").await;
    assert_eq!(line["protocol_version"], "1.0");
}

#[tokio::test]
async fn unknown_methods_and_routes_have_low_cardinality_names() {
    let sink = Sink::start();
    let service = exporting(&sink).start().await;
    let answer = get(&service, "/nothing/here", &[]).await;
    assert_eq!(answer.status, 404);
    let span = sink.span_of(answer.request_id()).await;
    assert_eq!(span.span.name, "GET");
    assert_eq!(span.text("http.route"), None);
    assert!(!span.is_error(), "4xx is the client's fault");
    assert_eq!(Some(&*span.trace_id()), answer.trace_id());

    let brew = reqwest::Method::from_bytes(b"BREW").unwrap();
    let request = service.client.request(brew, service.url("/api/v1/ping"));
    assert_eq!(request.send().await.unwrap().status(), 405);
    let span = sink
        .span("BREW", |received| {
            received.text("http.request.method").as_deref() == Some("_OTHER")
        })
        .await;
    assert_eq!(span.span.name, "HTTP /api/v1/ping");
    assert_eq!(
        span.text("http.request.method_original").as_deref(),
        Some("BREW")
    );
}

#[tokio::test]
async fn probes_and_the_admin_listener_make_no_spans() {
    let sink = Sink::start();
    let mut service = exporting(&sink).start().await;
    for url in [
        service.url("/health/live"),
        service.url("/health/ready"),
        service.admin("/metrics"),
        service.admin("/nothing"),
    ] {
        service.client.get(url).send().await.unwrap();
    }
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    let names: Vec<_> = sink
        .spans()
        .iter()
        .filter(|received| received.span.kind == 2)
        .map(|received| received.text("request.id"))
        .collect();
    assert_eq!(names, [Some(answer.request_id().to_owned())]);
}

#[tokio::test]
async fn the_trace_of_an_untrusted_client_is_linked() {
    let sink = Sink::start();
    let service = exporting(&sink).start().await;
    let answer = get(&service, "/nothing", &[("traceparent", PARENT)]).await;
    let span = sink.span_of(answer.request_id()).await;
    assert_ne!(span.trace_id(), TRACE);
    assert_eq!(span.parent(), "");
    let link = &span.span.links[0];
    assert_eq!(super::sink::hex(&link.trace_id), TRACE);
    assert_eq!(super::sink::hex(&link.span_id), "b7ad6b7169203331");
}

#[tokio::test]
async fn the_trace_of_a_trusted_caller_is_continued() {
    let sink = Sink::start();
    let service = exporting(&sink)
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
        .env("APP__TELEMETRY__TRACE_RATIO", "0")
        .start()
        .await;
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1")];
    let answer = get(&service, "/nothing", &headers).await;
    assert_eq!(answer.trace_id(), Some(TRACE));
    let span = sink.span_of(answer.request_id()).await;
    assert_eq!(span.trace_id(), TRACE);
    assert_eq!(span.parent(), "b7ad6b7169203331");
    assert_eq!(span.span.trace_state, "vendor=1");
    assert!(span.span.links.is_empty());
    // A client behind the trusted proxy is not trusted itself.
    let headers = [("traceparent", PARENT), ("x-forwarded-for", "203.0.113.9")];
    let answer = get(&service, "/nothing", &headers).await;
    assert_ne!(answer.trace_id(), Some(TRACE));
}

#[tokio::test]
async fn unsampled_errors_and_slow_requests_export_late_spans() {
    let sink = Sink::start();
    let service = exporting(&sink)
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
        .env("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        .env("APP__TELEMETRY__LATE_SPAN_AFTER", "0s")
        .env("APP__TELEMETRY__LATE_SPANS_PER_SECOND", "1000")
        .start()
        .await;
    let answer = get(&service, "/nothing", &[("traceparent", UNSAMPLED)]).await;
    let span = sink.span_of(answer.request_id()).await;
    assert_eq!(span.text("sampling.reason").as_deref(), Some("slow"));
    assert_eq!(span.trace_id(), TRACE, "the ids that the client has");
    assert_eq!(span.parent(), "b7ad6b7169203331");
    let line = request_line(&service, answer.request_id()).await;
    assert_eq!(line["span_id"], span.span_id().as_str());
    assert_eq!(line["sampled"], false);
    assert!(span.span.start_time_unix_nano < span.span.end_time_unix_nano);
    // Spans are counted after the acknowledgement of the collector.
    let metrics = eventually("the span is counted", async || {
        let metrics = service.metrics().await;
        let late = metrics.get("trace_spans_total", &[("outcome", "late")]);
        (late == Some(1.0)).then_some(metrics)
    })
    .await;
    let exported = metrics.get("trace_spans_total", &[("outcome", "exported")]);
    assert_eq!(exported, Some(0.0));
}

#[tokio::test]
async fn late_spans_are_limited_and_fast_successes_have_none() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("APP__TELEMETRY__TRACE_RATIO", "0")
        .env("APP__TELEMETRY__LATE_SPANS_PER_SECOND", "0")
        .env("APP__HTTP__REQUEST_TIMEOUT", "1h")
        .env("APP__HTTP__MAX_IN_FLIGHT", "1")
        .start()
        .await;
    for _ in 0..5 {
        get(&service, "/api/v1/ping", &[]).await;
    }
    assert_eq!(service.terminate().await, Some(0));
    assert!(sink.spans().is_empty(), "{:?}", sink.spans());
}

#[tokio::test]
async fn a_disabled_sdk_exports_nothing_and_keeps_trace_ids() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_SDK_DISABLED", "true")
        .start()
        .await;
    let answer = get(&service, "/nothing", &[]).await;
    let line = request_line(&service, answer.request_id()).await;
    assert_eq!(line["trace_id"].as_str(), answer.trace_id());
    assert_eq!(answer.trace_id().map(str::len), Some(32));
    assert_eq!(line["sampled"], false);
    let metrics = service.metrics().await;
    for outcome in ["exported", "late", "dropped", "failed"] {
        let count = metrics.get("trace_spans_total", &[("outcome", outcome)]);
        assert_eq!(count, Some(0.0), "{outcome}");
    }
    assert_eq!(service.terminate().await, Some(0));
    assert!(sink.exports().is_empty());
}

#[tokio::test]
async fn without_configuration_nothing_is_exported_or_dropped() {
    let service = Service::start(Backend::Sqlite).await;
    get(&service, "/api/v1/ping", &[]).await;
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("trace_spans_total", &[]), 0.0);
}
