//! The request that is being worked on, as any code below it can see it.

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
use telemetry::Correlation;
use uuid::Uuid;

use crate::{clock, ids};

/// The route of a request that no route matches.
pub const UNMATCHED: &str = "unmatched";

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
    /// When the request's head had arrived.
    pub began: Instant,
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
    pub route: &'static str,
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
    /// The context of a request that is not observed: new ids, not sampled, of no known
    /// route. It ties the answer to the log, and stands in no metric, trace or request line.
    #[must_use]
    pub fn new(client_address: IpAddr) -> Self {
        let (trace, span, random) = ids::random_ids();
        let (now, began) = clock::now();
        Self {
            began,
            request_id: ids::request_id(None, now, &random),
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

    /// Looks at the context of the request that this thread is polling.
    pub fn with<T>(look: impl FnOnce(Option<&Self>) -> T) -> T {
        CURRENT.with(|current| match current.try_borrow() {
            Ok(current) => look(current.as_deref()),
            Err(_) => look(None),
        })
    }

    /// For the log lines of this thread: the ids of the request that it is polling.
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

/// The context of a request that is entered once a poll: it is here, or lent to a
/// [`ContextGuard`].
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

/// Makes a context the current one until the guard is dropped. It is lent, not
/// cloned: a request is entered several times, and a count is an atomic operation.
pub struct ContextGuard<'a> {
    /// Has what was current before, meanwhile.
    lender: &'a mut Option<Arc<RequestContext>>,
    _span: Option<opentelemetry::ContextGuard>,
}

impl<'a> ContextGuard<'a> {
    fn new(lender: &'a mut Option<Arc<RequestContext>>) -> Self {
        let span = lender.as_ref().and_then(|context| context.span.clone());
        CURRENT.with(|current| std::mem::swap(&mut *current.borrow_mut(), lender));
        Self {
            lender,
            _span: span.map(opentelemetry::Context::attach),
        }
    }
}

impl Drop for ContextGuard<'_> {
    fn drop(&mut self) {
        CURRENT.with(|current| std::mem::swap(&mut *current.borrow_mut(), self.lender));
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
        let _entered = this
            .context
            .is_some()
            .then(|| ContextGuard::new(this.context));
        this.inner.poll(cx)
    }
}
