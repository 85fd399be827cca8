//! Responses of a collector and the outcome of the exported items.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::get;
use crate::support::{Backend, Samples, Service, eventually};

const HTTP: &str = "http/protobuf";
const GRPC: &str = "grpc";

/// A recorded export request.
struct ExportRequest {
    at: Instant,
    headers: HeaderMap,
    body: Bytes,
}

/// A collector that sends these responses in order and accepts everything afterwards.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    answers: Arc<Mutex<VecDeque<Response>>>,
    exports: Arc<Mutex<Vec<ExportRequest>>>,
}

impl Collector {
    async fn answering<const N: usize>(answers: [Response; N]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::new(Mutex::new(answers.into())),
            exports: Arc::default(),
        };
        let router = Router::new()
            .fallback(Self::answer)
            .with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    async fn answer(State(this): State<Self>, request: Request) -> Response {
        let at = Instant::now();
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let is_grpc = parts.headers["content-type"] == "application/grpc";
        let headers = parts.headers;
        this.exports
            .lock()
            .unwrap()
            .push(ExportRequest { at, headers, body });
        let answer = this.answers.lock().unwrap().pop_front();
        answer.unwrap_or_else(|| accepted(is_grpc, &ExportTraceServiceResponse::default()))
    }

    /// A service with this batch size. Only requests that ask for it are sampled, so that worker
    /// runs create no spans.
    async fn service(&self, protocol: &str, batch: usize) -> Service {
        Service::builder(Backend::Sqlite)
            .env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://{}", self.address),
            )
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_TRACES_SAMPLER", "parentbased_always_off")
            .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.1/32")
            .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
            .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch.to_string())
            .start()
            .await
    }
}

/// The response to an accepted request.
fn accepted(is_grpc: bool, message: &ExportTraceServiceResponse) -> Response {
    let message = message.encode_to_vec();
    if !is_grpc {
        return message.into_response();
    }
    framed(&message)
}

/// A gRPC response with a message and status 0.
fn framed(message: &[u8]) -> Response {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0], &length[..], message].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let framed = http_body_util::Full::new(Bytes::from(framed));
    let body = Body::new(framed.with_trailers(async move { Some(Ok(trailers)) }));
    ([("content-type", "application/grpc")], body).into_response()
}

fn by_http(status: u16, headers: &[(&'static str, &'static str)]) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        answer
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    answer
}

fn by_grpc(code: Code, delay: Option<Duration>) -> Response {
    let details = delay.map_or_else(ErrorDetails::new, |delay| {
        ErrorDetails::with_retry_info(Some(delay))
    });
    Status::with_error_details(code, "not now", details).into_http()
}

/// Pings of a caller that samples them.
async fn ping(service: &Service, times: usize) {
    let sampled = (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    for _ in 0..times {
        assert_eq!(get(service, "/api/v1/ping", &[sampled]).await.status, 200);
    }
}

fn outcome(metrics: &Samples, outcome: &str) -> f64 {
    let count = metrics.get("trace_spans_total", &[("outcome", outcome)]);
    count.unwrap()
}

/// Waits until this many spans are exported or failed.
async fn wait_for_outcomes(service: &Service, spans: f64) -> (f64, f64) {
    eventually("the fate of all spans", async || {
        let metrics = service.metrics().await;
        let fates = (outcome(&metrics, "exported"), outcome(&metrics, "failed"));
        (fates.0 + fates.1 >= spans).then_some(fates)
    })
    .await
}

/// Exports one span with these responses. Returns its outcome and the time between the attempts.
async fn one_span<const N: usize>(
    protocol: &str,
    answers: [Response; N],
) -> ((f64, f64), Vec<Duration>) {
    let collector = Collector::answering(answers).await;
    let service = collector.service(protocol, 1).await;
    ping(&service, 1).await;
    let fates = wait_for_outcomes(&service, 1.0).await;
    let exports = collector.exports.lock().unwrap();
    for export in &*exports {
        assert_eq!(export.body, exports[0].body, "the same spans");
    }
    let waits = exports.windows(2).map(|pair| pair[1].at - pair[0].at);
    (fates, waits.collect())
}

const EXPORTED: (f64, f64) = (1.0, 0.0);
const FAILED: (f64, f64) = (0.0, 1.0);
/// A delay requested by the collector, far beyond the exporter's own.
const ASKED: Duration = Duration::from_secs(1);

#[tokio::test]
async fn rejected_spans_count_as_failed_and_are_logged() {
    for protocol in [HTTP, GRPC] {
        let partial = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 2,
                error_message: "too old".to_owned(),
            }),
        };
        let answers = [
            accepted(protocol == GRPC, &partial),
            accepted(protocol == GRPC, &partial),
        ];
        let collector = Collector::answering(answers).await;
        let mut service = collector.service(protocol, 3).await;
        for (spans, expected) in [(3.0, (1.0, 2.0)), (6.0, (2.0, 4.0))] {
            ping(&service, 3).await;
            assert_eq!(
                wait_for_outcomes(&service, spans).await,
                expected,
                "{protocol}"
            );
        }
        // Accepted items are not sent again.
        assert_eq!(collector.exports.lock().unwrap().len(), 2);
        assert_eq!(service.terminate().await, Some(0));
        let lines = service.logs();
        let mut warnings = lines
            .iter()
            .filter(|line| line["message"] == "the collector reported a partial success for spans");
        let line = warnings.next().expect("a line");
        assert_eq!(line["level"], "warn");
        assert_eq!(line["reason"], "too old");
        assert_eq!(line["rejected"], 2);
        assert!(warnings.next().is_none(), "it is logged once");
    }
}

/// Exports log lines one by one after this first response. Returns the number of failed lines and
/// the warning.
async fn warning_after(protocol: &str, answer: Response) -> (f64, serde_json::Value) {
    let collector = Collector::answering([answer]).await;
    let mut service = Service::builder(Backend::Sqlite)
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address),
        )
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        // Also not retryable for `opentelemetry-otlp`.
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .env("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1")
        .start()
        .await;
    let failed = eventually("an exported line", async || {
        let metrics = service.metrics().await;
        let outcome = |name| metrics.get("log_export_total", &[("outcome", name)]);
        (outcome("exported")? > 0.0).then(|| outcome("failed"))?
    })
    .await;
    assert_eq!(service.terminate().await, Some(0));
    let lines = service.logs();
    let warning = lines.into_iter().find(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("collector") && line["level"] == "warn"
    });
    (failed, warning.expect("a line about the collector"))
}

#[tokio::test]
async fn rejected_log_lines_count_as_failed_and_are_logged() {
    for protocol in [HTTP, GRPC] {
        // The encodings of both signals are the same.
        let partial = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 1,
                error_message: "too long".to_owned(),
            }),
        };
        let (failed, line) = warning_after(protocol, accepted(protocol == GRPC, &partial)).await;
        assert_eq!(failed, 1.0, "{protocol}");
        let message = "the collector reported a partial success for log lines";
        assert_eq!(line["message"], message, "{protocol}");
        assert_eq!(line["reason"], "too long", "{protocol}");
    }
}

/// A web server that answers 200 to everything.
fn login_page() -> Response {
    axum::response::Html("<!doctype html><title>Sign in</title>").into_response()
}

#[tokio::test]
async fn a_response_other_than_otlp_acknowledges_no_spans() {
    let json = |text: &'static str| ([("content-type", "application/json")], text).into_response();
    for (protocol, answer, expected) in [
        (HTTP, login_page(), FAILED),
        (HTTP, "ok".into_response(), FAILED),
        (HTTP, json(r#"{"status":"ok"}"#), FAILED),
        (HTTP, by_http(204, &[]), EXPORTED),
        (HTTP, json("{}"), EXPORTED),
        (
            HTTP,
            json(r#"{"partialSuccess":{"rejectedSpans":"1"}}"#),
            FAILED,
        ),
        (GRPC, login_page(), FAILED),
        (GRPC, by_http(200, &[]), FAILED),
        (
            GRPC,
            by_http(200, &[("content-type", "application/grpc")]),
            FAILED,
        ),
        (GRPC, framed(b"ok"), FAILED),
    ] {
        let case = format!("{protocol} {answer:?}");
        let (fate, waits) = one_span(protocol, [answer]).await;
        assert_eq!(fate, expected, "{case}");
        assert!(waits.is_empty(), "it may have been taken: {case}");
    }
}

#[tokio::test]
async fn a_response_other_than_otlp_acknowledges_no_log_lines() {
    for (protocol, answer) in [
        (HTTP, login_page()),
        (GRPC, login_page()),
        (GRPC, framed(b"ok")),
    ] {
        let case = format!("{protocol} {answer:?}");
        let (failed, line) = warning_after(protocol, answer).await;
        assert_eq!(failed, 1.0, "{case}");
        assert_eq!(line["message"], "the collector does not accept log lines");
        let error = line["error"].as_str().unwrap();
        assert!(protocol == GRPC || error.contains("not OTLP"), "{error}");
    }
}

#[tokio::test]
async fn a_batch_is_retried_until_the_collector_recovers() {
    for (protocol, answer) in [
        (HTTP, by_http(502, &[])),
        (GRPC, by_grpc(Code::Unavailable, None)),
    ] {
        let (fate, waits) = one_span(protocol, [answer]).await;
        assert_eq!(fate, EXPORTED, "{protocol}");
        assert_eq!(waits.len(), 1, "{protocol}");
        assert!(waits[0] >= Duration::from_millis(100), "{waits:?}");
    }
}

#[tokio::test]
async fn a_retry_respects_the_delay_of_the_collector() {
    for (protocol, answer) in [
        (HTTP, by_http(503, &[("retry-after", "1")])),
        (GRPC, by_grpc(Code::ResourceExhausted, Some(ASKED))),
    ] {
        let (fate, waits) = one_span(protocol, [answer]).await;
        assert_eq!(fate, EXPORTED, "{protocol}");
        assert_eq!(waits.len(), 1, "{protocol}");
        assert!(waits[0] >= ASKED, "{protocol} {waits:?}");
    }
}

#[tokio::test]
async fn a_permanently_rejected_batch_is_sent_once() {
    for (protocol, answer) in [
        (HTTP, by_http(400, &[("retry-after", "0")])),
        (HTTP, by_http(307, &[("location", "/elsewhere")])),
        (GRPC, by_grpc(Code::InvalidArgument, Some(Duration::ZERO))),
        (GRPC, by_grpc(Code::ResourceExhausted, None)),
        // Longer than the timeout of a batch.
        (HTTP, by_http(429, &[("retry-after", "3600")])),
        (
            GRPC,
            by_grpc(Code::Unavailable, Some(Duration::from_hours(1))),
        ),
    ] {
        let case = format!("{protocol} {answer:?}");
        let (fate, waits) = one_span(protocol, [answer]).await;
        assert_eq!(fate, FAILED, "{case}");
        assert!(waits.is_empty(), "{case} {waits:?}");
    }
}

#[tokio::test]
async fn a_repeatedly_failing_batch_is_given_up() {
    let unavailable = || by_http(503, &[]);
    let answers = [(); 8].map(|()| unavailable());
    let (fate, waits) = one_span(HTTP, answers).await;
    assert_eq!(fate, FAILED);
    assert_eq!(waits.len(), 3);
}

#[tokio::test]
async fn the_exporter_sends_its_user_agent() {
    for protocol in [HTTP, GRPC] {
        let collector = Collector::answering([]).await;
        let service = collector.service(protocol, 1).await;
        ping(&service, 1).await;
        wait_for_outcomes(&service, 1.0).await;
        let exports = collector.exports.lock().unwrap();
        let agent = exports[0].headers["user-agent"].to_str().unwrap();
        let expected = concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION"),
            " OTel-OTLP-Exporter-Rust/",
        );
        assert!(agent.starts_with(expected), "{agent}");
    }
}
