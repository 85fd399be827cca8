//! The request that is being worked on, as any code below it can see it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceId};
use pin_project_lite::pin_project;
use quanta::Instant;
use telemetry::Correlation;
use uuid::Uuid;

use super::head::{Head, method_label, random_ids};
use super::routes::UNMATCHED;
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
    /// The context of a request that nobody observes: it ties answer and log
    /// together, and stands in no metric, trace or request line.
    #[must_use]
    pub fn unobserved<B>(request: &http::Request<B>, limits: BodyLimits) -> Self {
        let (trace, span, random) = random_ids();
        let (now, began) = now();
        let peer = request.extensions().get::<PeerAddress>();
        Self {
            began,
            request_id: Head::read(request.headers()).request_id(now, &random),
            trace_id: TraceId::from_bytes(trace),
            span_id: SpanId::from_bytes(span),
            sampled: false,
            span: None,
            method: method_label(request.method()),
            route: UNMATCHED,
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

/// The time of day, and the processor's counter. A request asks for the time half a
/// dozen times, and the operating system's clock costs several times as much as the
/// counter; so the time of day is asked for ten times a second, and counted on.
pub(super) fn now() -> (SystemTime, Instant) {
    const COUNTED_ON: Duration = Duration::from_millis(100);
    thread_local! {
        static ASKED: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if let Some((time, at)) = ASKED.get() {
        let since = now - at;
        if since < COUNTED_ON {
            return (time + since, now);
        }
    }
    let asked = ask();
    ASKED.set(Some(asked));
    asked
}

#[cold]
fn ask() -> (SystemTime, Instant) {
    (settings::clock::system_time(), Instant::now())
}

/// A context that is [`Entered`] again and again: it is here, or lent.
pub struct Lendable(pub(super) Option<Arc<RequestContext>>);

impl Deref for Lendable {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        match &self.0 {
            Some(context) => context,
            None => unreachable!("whoever it is lent to has it"),
        }
    }
}

/// Makes a context the current one until the guard is dropped. It is lent, not
/// cloned: a request is entered several times, and a count is an atomic operation.
pub(super) struct Entered<'a> {
    /// Has what was current before, meanwhile.
    lender: &'a mut Option<Arc<RequestContext>>,
    _span: Option<opentelemetry::ContextGuard>,
}

impl<'a> Entered<'a> {
    pub(super) fn new(lender: &'a mut Option<Arc<RequestContext>>) -> Self {
        let span = lender.as_ref().and_then(|context| context.span.clone());
        CURRENT.with(|current| std::mem::swap(&mut *current.borrow_mut(), lender));
        Self {
            lender,
            _span: span.map(opentelemetry::Context::attach),
        }
    }
}

impl Drop for Entered<'_> {
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
        let _entered = this.context.is_some().then(|| Entered::new(this.context));
        this.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_goes_on() {
        let (began, _) = now();
        let mut last = began;
        for _ in 0..100 {
            let (time, _) = now();
            assert!(time >= last);
            last = time;
        }
        assert!(last > began);
    }
}
