//! A collector that accepts spans and log lines over HTTP and gRPC on one port and stores them.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::post;
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message as _;
use tower_http::decompression::RequestDecompressionLayer;

use crate::support::eventually;

/// A span with its resource.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    pub span: Span,
    resource: Vec<KeyValue>,
}

/// A log record with its scope name and resource.
#[derive(Debug, Clone)]
pub struct Line {
    pub record: LogRecord,
    pub target: String,
    resource: Vec<KeyValue>,
}

/// Stored exports.
#[derive(Default)]
struct Storage {
    spans: Vec<ReceivedSpan>,
    lines: Vec<Line>,
    /// Path and headers of each export.
    exports: Vec<(String, HeaderMap)>,
    /// Number of spans in each export of spans, and of records in each export of log lines.
    batches: [Vec<usize>; 2],
}

pub struct Sink {
    address: SocketAddr,
    kept: Arc<Mutex<Storage>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sink {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Duration::ZERO)
    }

    /// A collector that delays every response.
    pub fn slow(every: Duration) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), every)
    }

    /// A collector at an address that was free.
    pub fn start_at(address: SocketAddr, takes: Duration) -> Self {
        let kept = Arc::<Mutex<Storage>>::default();
        let router = Router::new()
            .route("/v1/traces", post(http))
            .route("/v1/logs", post(http))
            // The endpoint may have any path.
            .fallback(post(http))
            .route(
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                post(grpc),
            )
            .route(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                post(grpc),
            )
            .layer(RequestDecompressionLayer::new())
            .layer(axum::middleware::map_request(remember_encoding))
            .layer(axum::middleware::map_request(
                move |request: Request| async move {
                    tokio::time::sleep(takes).await;
                    request
                },
            ))
            .with_state(Arc::clone(&kept));
        // On its own runtime, so that stopping it also closes the connections.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            kept,
            runtime: Some(runtime),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the collector. Returns when its port is free and its connections are closed.
    pub async fn stop(mut self) {
        let runtime = self.runtime.take().unwrap();
        let stopped = tokio::task::spawn_blocking(|| {
            runtime.shutdown_timeout(Duration::from_secs(5));
        });
        stopped.await.unwrap();
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.kept.lock().unwrap().spans.clone()
    }

    pub fn lines(&self) -> Vec<Line> {
        self.kept.lock().unwrap().lines.clone()
    }

    /// Number of spans and of log lines in each export.
    pub fn batches(&self) -> [Vec<usize>; 2] {
        self.kept.lock().unwrap().batches.clone()
    }

    pub fn exports(&self) -> Vec<(String, HeaderMap)> {
        self.kept.lock().unwrap().exports.clone()
    }

    /// Waits for a span.
    pub async fn span(&self, what: &str, wanted: impl Fn(&ReceivedSpan) -> bool) -> ReceivedSpan {
        eventually(what, async || self.spans().into_iter().find(&wanted)).await
    }

    /// Waits for the server span of the request with this id.
    pub async fn span_of(&self, request_id: &str) -> ReceivedSpan {
        self.span(request_id, |received| {
            received.text("request.id").as_deref() == Some(request_id)
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl ReceivedSpan {
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn span_id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    pub fn is_error(&self) -> bool {
        let status = self.span.status.as_ref();
        status.is_some_and(|status| status.code() == StatusCode::Error)
    }

    /// An attribute as text.
    pub fn text(&self, name: &str) -> Option<String> {
        find(&self.span.attributes, name)
    }

    pub fn resource(&self, name: &str) -> Option<String> {
        find(&self.resource, name)
    }
}

impl Line {
    /// An attribute as text.
    pub fn text(&self, name: &str) -> Option<String> {
        find(&self.record.attributes, name)
    }

    pub fn body(&self) -> Option<String> {
        let body = KeyValue {
            key: String::new(),
            value: self.record.body.clone(),
            ..KeyValue::default()
        };
        find(&[body], "")
    }

    pub fn resource(&self, name: &str) -> Option<String> {
        find(&self.resource, name)
    }
}

fn find(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn keep(kept: &Mutex<Storage>, path: &str, headers: &HeaderMap, message: &[u8]) {
    let mut kept = kept.lock().unwrap();
    kept.exports.push((path.to_owned(), headers.clone()));
    if path.to_lowercase().contains("logs") {
        let before = kept.lines.len();
        keep_lines(&mut kept.lines, message);
        let batch = kept.lines.len() - before;
        kept.batches[1].push(batch);
        return;
    }
    let before = kept.spans.len();
    let request = ExportTraceServiceRequest::decode(message).expect("an export request");
    for group in request.resource_spans {
        let resource = group.resource.map(|r| r.attributes).unwrap_or_default();
        for scope in group.scope_spans {
            kept.spans
                .extend(scope.spans.into_iter().map(|span| ReceivedSpan {
                    span,
                    resource: resource.clone(),
                }));
        }
    }
    let batch = kept.spans.len() - before;
    kept.batches[0].push(batch);
}

fn keep_lines(lines: &mut Vec<Line>, message: &[u8]) {
    let request = ExportLogsServiceRequest::decode(message).expect("an export request");
    for group in request.resource_logs {
        let resource = group.resource.map(|r| r.attributes).unwrap_or_default();
        for scope in group.scope_logs {
            let target = scope.scope.map(|scope| scope.name).unwrap_or_default();
            lines.extend(scope.log_records.into_iter().map(|record| Line {
                record,
                target: target.clone(),
                resource: resource.clone(),
            }));
        }
    }
}

/// The decompression layer removes the header.
async fn remember_encoding(mut request: Request) -> Request {
    if let Some(encoding) = request.headers().get("content-encoding").cloned() {
        request.headers_mut().insert("x-encoding", encoding);
    }
    request
}

async fn http(State(kept): State<Arc<Mutex<Storage>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
    let body = to_bytes(body, usize::MAX).await.unwrap();
    keep(&kept, parts.uri.path(), &parts.headers, &body);
    Response::new(Body::empty())
}

/// A unary gRPC call: a message with a five-byte prefix, and trailers.
async fn grpc(State(kept): State<Arc<Mutex<Storage>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.headers["content-type"], "application/grpc");
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let message = if body[0] == 0 {
        body.slice(5..)
    } else {
        let mut message = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&body[5..]);
        decoder.read_to_end(&mut message).expect("gzip");
        message.into()
    };
    keep(&kept, parts.uri.path(), &parts.headers, &message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let empty = http_body_util::Full::new(Bytes::from_static(&[0; 5]));
    let body = Body::new(empty.with_trailers(async move { Some(Ok(trailers)) }));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}
