//! The context of the current request, readable by all code that works on it.

use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::Deref;
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
    pub route: &'static str,
    /// Address of the client, resolved through trusted proxies.
    pub client_address: IpAddr,
    /// Limits on the body.
    pub limits: BodyLimits,
    /// Set once the request is authenticated.
    pub principal: OnceLock<Uuid>,
    /// Set if the answer is a stream without an end.
    pub stream: OnceLock<()>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<RequestContext>>> = const { RefCell::new(None) };
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
            route: UNMATCHED,
            client_address,
            limits: BodyLimits::default(),
            principal: OnceLock::new(),
            stream: OnceLock::new(),
        }
    }

    /// Calls `look` with the context of the request that this thread polls.
    pub fn with<T>(look: impl FnOnce(Option<&Self>) -> T) -> T {
        CURRENT.with(|current| match current.try_borrow() {
            Ok(current) => look(current.as_deref()),
            Err(_) => look(None),
        })
    }

    /// Passes the ids of the request that this thread polls to the log line.
    pub fn correlate(line: &mut dyn FnMut(Option<Correlation<'_>>)) {
        Self::with(|request| {
            line(request.map(|request| Correlation {
                trace_id: request.trace_id,
                span_id: request.span_id,
                sampled: request.sampled,
                request_id: &request.request_id,
            }));
        });
    }

    /// The context of the request that this thread polls.
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

/// The context of a request, which is entered at every poll. The slot is empty while a
/// [`ContextGuard`] has borrowed the context.
pub struct ContextSlot(Option<Arc<RequestContext>>);

impl ContextSlot {
    /// A slot with this context.
    #[must_use]
    pub fn new(context: RequestContext) -> Self {
        Self(Some(Arc::new(context)))
    }

    /// Makes the context the current one until the guard is dropped.
    pub fn enter(&mut self) -> ContextGuard<'_> {
        ContextGuard::new(&mut self.0)
    }

    /// A second slot with the same context.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Deref for ContextSlot {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        match &self.0 {
            Some(context) => context,
            None => unreachable!("the guard borrows the slot"),
        }
    }
}

/// Makes a context the current one until the guard is dropped. The context is lent and not cloned,
/// because a request is entered several times and a reference count is an atomic operation.
pub struct ContextGuard<'a> {
    /// Holds the previous context meanwhile.
    slot: &'a mut Option<Arc<RequestContext>>,
    _span: Option<opentelemetry::ContextGuard>,
}

impl<'a> ContextGuard<'a> {
    fn new(slot: &'a mut Option<Arc<RequestContext>>) -> Self {
        let span = slot.as_ref().and_then(|context| context.span.clone());
        CURRENT.with(|current| std::mem::swap(&mut *current.borrow_mut(), slot));
        Self {
            slot,
            _span: span.map(opentelemetry::Context::attach),
        }
    }
}

impl Drop for ContextGuard<'_> {
    fn drop(&mut self) {
        CURRENT.with(|current| std::mem::swap(&mut *current.borrow_mut(), self.slot));
    }
}

pin_project! {
    /// A future that runs with a context. See [`scope`].
    pub struct Scope<F> {
        context: Option<Arc<RequestContext>>,
        #[pin]
        inner: F,
    }
}

/// Runs a future with a context.
pub fn within<F: Future>(context: Arc<RequestContext>, inner: F) -> Scope<F> {
    Scope {
        context: Some(context),
        inner,
    }
}

/// Runs a future with the current context outside of the request's task.
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
        let _entered = this
            .context
            .is_some()
            .then(|| ContextGuard::new(this.context));
        this.inner.poll(cx)
    }
}
