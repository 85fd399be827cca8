//! The request that is being worked on, as any code below it can see it.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::MatchedPath;
use opentelemetry::trace::{SpanId, TraceId};
use pin_project_lite::pin_project;
use uuid::Uuid;

use super::head::{method_label, request_id};
use crate::platform::http::PeerAddress;

/// Limits on the body of a request.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes, after decompression.
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

/// Ids, route, client and principal of a request. Log lines read it whether or
/// not the request is sampled.
#[derive(Debug)]
pub struct RequestContext {
    /// The client's `X-Request-Id` when it is acceptable, else a new one.
    pub request_id: Box<str>,
    /// Trace that the request belongs to; ties answer and log also without a span.
    pub trace_id: TraceId,
    /// The server span.
    pub span_id: SpanId,
    /// Whether the server span is recorded from its start.
    pub sampled: bool,
    /// When it is: what inner spans, and calls to others, find as their parent.
    pub span: Option<opentelemetry::Context>,
    /// One of the nine standard methods, or `other`.
    pub method: &'static str,
    /// Route template, or `unmatched`.
    pub route: Arc<str>,
    /// Resolved through trusted proxies.
    pub client_address: IpAddr,
    /// Limits on the body.
    pub limits: BodyLimits,
    /// Set once the request is authenticated.
    pub principal: OnceLock<Uuid>,
    /// Set when the answer has no end of its own.
    pub stream: OnceLock<()>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<RequestContext>>> = const { RefCell::new(None) };
}

impl RequestContext {
    /// The context of a request that nobody observes: it ties answer and log
    /// together, and stands in no metric, trace or request line.
    #[must_use]
    pub fn unobserved<B>(request: &http::Request<B>, limits: BodyLimits) -> Self {
        let peer = request.extensions().get::<PeerAddress>();
        let route = request.extensions().get::<MatchedPath>();
        Self {
            request_id: request_id(request.headers()),
            trace_id: TraceId::from_bytes(rand::random()),
            span_id: SpanId::from_bytes(rand::random()),
            sampled: false,
            span: None,
            method: method_label(request.method()),
            route: Arc::from(route.map_or("unmatched", MatchedPath::as_str)),
            client_address: peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip()),
            limits,
            principal: OnceLock::new(),
            stream: OnceLock::new(),
        }
    }

    /// Looks at the context of the request that this thread is polling.
    pub fn with<T>(look: impl FnOnce(Option<&Self>) -> T) -> T {
        CURRENT.with(|current| match current.try_borrow() {
            Ok(current) => look(current.as_deref()),
            Err(_) => look(None),
        })
    }

    /// The context of the request that this thread is polling.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with(|current| {
            current
                .try_borrow()
                .ok()
                .and_then(|current| current.clone())
        })
    }
}

/// Makes `context` the current one until the guard is dropped.
pub(super) struct Entered {
    previous: Option<Arc<RequestContext>>,
    _span: Option<opentelemetry::ContextGuard>,
}

impl Entered {
    pub(super) fn new(context: &Arc<RequestContext>) -> Self {
        Self {
            previous: CURRENT.with(|current| current.replace(Some(Arc::clone(context)))),
            _span: context.span.clone().map(opentelemetry::Context::attach),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let previous = self.previous.take();
        CURRENT.with(|current| *current.borrow_mut() = previous);
    }
}

pin_project! {
    /// A future that runs with a context; see [`scope`].
    pub struct Scope<F> {
        context: Option<Arc<RequestContext>>,
        #[pin]
        inner: F,
    }
}

/// Runs work with a context.
pub fn within<F: Future>(context: Arc<RequestContext>, inner: F) -> Scope<F> {
    Scope {
        context: Some(context),
        inner,
    }
}

/// Carries the current context into work that leaves the request's own task.
pub fn scope<F: Future>(inner: F) -> Scope<F> {
    Scope {
        context: RequestContext::current(),
        inner,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.context.as_ref().map(Entered::new);
        this.inner.poll(cx)
    }
}
