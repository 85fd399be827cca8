//! The context of the current request, readable by all code that works on it.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};
use pin_project_lite::pin_project;
use quanta::Instant;
use settings::clock::system_time;
use telemetry::Correlation;
use uuid::Uuid;

use crate::ids;

/// The route of a request that no route matches.
pub const UNMATCHED: &str = "unmatched";

/// Limits on the body of a request.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Limit in bytes, after decompression.
    pub max_body_bytes: usize,
    /// Time for the whole body.
    pub body_timeout: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            body_timeout: Duration::from_secs(10),
        }
    }
}

/// Ids, route, client and principal of a request. Log lines read it for sampled and unsampled
/// requests.
#[derive(Debug)]
pub struct RequestContext {
    /// Time at which the head of the request had arrived.
    pub began: Instant,
    /// The client's `X-Request-Id` if it is acceptable, else a new id.
    pub request_id: Box<str>,
    /// Trace of the request. It connects answer and log even without a span.
    pub trace_id: TraceId,
    /// The server span.
    pub span_id: SpanId,
    /// Whether the server span is recorded from its start.
    pub sampled: bool,
    /// The parent of inner spans and outgoing calls. `None` if the request is not sampled.
    pub span: Option<opentelemetry::Context>,
    /// One of the nine standard methods, or `other`.
    pub method: &'static str,
    /// Route template, or `unmatched`.
    pub route: Arc<str>,
    /// Address of the client, resolved through trusted proxies.
    pub client_address: IpAddr,
    /// Limits on the body.
    pub limits: BodyLimits,
    /// Set once the request is authenticated.
    pub principal: OnceLock<Uuid>,
    /// Set once the request is authenticated by an API key.
    pub api_key: OnceLock<Uuid>,
    /// Set if the answer is a stream without an end.
    pub stream: OnceLock<()>,
}

tokio::task_local! {
    /// Log lines and problems of a request carry its ids, also from code that does not know the
    /// request.
    static CURRENT: Arc<RequestContext>;
}

impl RequestContext {
    /// The context of a request that is not observed: new ids, unsampled, route unmatched. It
    /// connects the answer to the log. No metric, trace or request line contains it.
    #[must_use]
    pub fn new(client_address: IpAddr) -> Self {
        let (trace, span, random) = ids::random_ids();
        Self {
            began: Instant::now(),
            request_id: ids::request_id(None, system_time(), &random),
            trace_id: TraceId::from_bytes(trace),
            span_id: SpanId::from_bytes(span),
            sampled: false,
            span: None,
            method: "other",
            route: UNMATCHED.into(),
            client_address,
            limits: BodyLimits::default(),
            principal: OnceLock::new(),
            api_key: OnceLock::new(),
            stream: OnceLock::new(),
        }
    }

    /// Calls `look` with the context of the request that is being worked on, if there is one.
    pub fn with<T>(look: impl FnOnce(&Self) -> T) -> Option<T> {
        CURRENT.try_with(|current| look(current)).ok()
    }

    /// Passes the ids of the request that is being worked on to the log line.
    pub fn correlate(line: &mut dyn FnMut(Option<Correlation<'_>>)) {
        let request = Self::current();
        line(request.as_deref().map(|request| Correlation {
            trace_id: request.trace_id,
            span_id: request.span_id,
            sampled: request.sampled,
            request_id: &request.request_id,
        }));
    }

    /// The context of the request that is being worked on.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_get().ok()
    }

    /// Runs `work` with this context as the current one, and with the span of the request.
    pub fn enter<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _span = self.span.clone().map(opentelemetry::Context::attach);
        CURRENT.sync_scope(Arc::clone(self), work)
    }
}

pin_project! {
    /// A future that runs with a context. See [`within`].
    pub struct WithinContext<F> {
        context: Arc<RequestContext>,
        #[pin]
        inner: F,
    }
}

/// Runs a future with a context.
pub fn within<F: Future>(context: Arc<RequestContext>, inner: F) -> WithinContext<F> {
    WithinContext { context, inner }
}

impl<F: Future> Future for WithinContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.enter(|| this.inner.poll(cx))
    }
}
