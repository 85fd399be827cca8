//! The servers for comparison: bare axum, and the usual tutorial layers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, post};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

async fn pong() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "message": "pong" }))
}

pub fn address() -> anyhow::Result<SocketAddr> {
    Ok(std::env::var("BENCH_ADDRESS")?.parse()?)
}

pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// Bare axum.
pub fn bare() -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address()?).await?;
        axum::serve(listener, Router::new().route("/api/v1/ping", get(pong))).await?;
        Ok(())
    })
}

#[derive(Clone)]
struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
}

/// Metrics with string labels that are looked up for every request.
async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().to_string();
    let path = request.extensions().get::<MatchedPath>().map_or_else(
        || request.uri().path().to_owned(),
        |path| path.as_str().to_owned(),
    );
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics
        .requests
        .with_label_values(&[method.as_str(), &path, &status])
        .inc();
    let seconds = began.elapsed().as_secs_f64();
    metrics
        .duration
        .with_label_values(&[method.as_str(), &path])
        .observe(seconds);
    response
}

/// The layers of the usual tutorials.
pub fn tutorial() -> anyhow::Result<()> {
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let endpoint = format!(
        "{}/v1/traces",
        std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT")?
    );
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .build()?;
    // Its HTTP client needs a Tokio reactor, which the SDK's thread does not have.
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            0.1,
        ))))
        .build();
    tracing_subscriber::registry()
        .with(tracing_subscriber::EnvFilter::new("info,tower_http=info"))
        .with(tracing_subscriber::fmt::layer().json())
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("tutorial")))
        .init();
    let metrics = Metrics {
        requests: IntCounterVec::new(
            Opts::new("http_requests_total", "requests"),
            &["method", "path", "status"],
        )?,
        duration: HistogramVec::new(
            HistogramOpts::new("http_request_duration_seconds", "duration"),
            &["method", "path"],
        )?,
    };
    let limit = GovernorConfigBuilder::default()
        .period(Duration::from_nanos(100))
        .burst_size(10_000_000)
        .finish()
        .ok_or_else(|| anyhow::anyhow!("the limit"))?;
    let id = http::HeaderName::from_static("x-request-id");
    let header = |name, value| {
        SetResponseHeaderLayer::overriding(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static(value),
        )
    };
    let level = tracing::Level::INFO;
    let trace = TraceLayer::new_for_http()
        .make_span_with(tower_http::trace::DefaultMakeSpan::new().level(level))
        .on_response(tower_http::trace::DefaultOnResponse::new().level(level));
    let router = Router::new()
        .route("/api/v1/ping", get(pong))
        .layer(GovernorLayer::new(Arc::new(limit)))
        .layer(RequestBodyLimitLayer::new(1 << 20))
        .layer(RequestDecompressionLayer::new())
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(TimeoutLayer::with_status_code(
            http::StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(15),
        ))
        .layer(CatchPanicLayer::new())
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("cache-control", "no-store"))
        .layer(axum::middleware::from_fn_with_state(metrics, measure))
        .layer(trace)
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid));
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address()?).await?;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).await?;
        Ok(())
    })
}

/// A collector that counts the requests and drops the content.
pub struct Sink {
    address: SocketAddr,
    batches: Arc<AtomicU64>,
}

impl Sink {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Number of received span batches.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// Starts a collector on a thread on the load's core.
pub async fn trace_sink() -> anyhow::Result<Sink> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await?
        .into_std()?;
    let address = listener.local_addr()?;
    let batches = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&batches);
    std::thread::spawn(move || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let take = post(|_: bytes::Bytes| async move {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let router = Router::new().route("/v1/traces", take);
            Ok(axum::serve(listener, router).await?)
        })
    });
    Ok(Sink { address, batches })
}
