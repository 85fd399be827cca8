//! The outermost layer of HTTP. It is outside of the deadline, shedding and panic handling, so that
//! every request is recorded.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use lifecycle::State;
use pin_project_lite::pin_project;
use quanta::Instant;
use request::{ReportedProblem, RequestContext};
use telemetry::hex;
use tower::{Layer, Service};

use crate::connection::Serve;
use crate::connection::in_flight::Answer;
use crate::headers::secure;
use crate::observe::observed_request::{Observation, ObservedRequest};
use crate::observe::request_head::REQUEST_ID;

/// `traceresponse` (W3C Trace Context, level 2): the trace of the request, whether or not it is
/// sampled. The log has the same trace.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
/// `Server-Timing` (W3C): milliseconds from the request's head to the answer's.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Installs [`Observe`].
#[derive(Clone)]
pub struct ObserveLayer(Arc<Observation>);

impl ObserveLayer {
    /// A layer that observes requests with `shared`.
    #[must_use]
    pub fn new(shared: Observation) -> Self {
        Self(Arc::new(shared))
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            shared: Arc::clone(&self.0),
            peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

/// Creates the context of every request, and writes its record at its end.
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    shared: Arc<Observation>,
    /// The remote address of the connection.
    peer: IpAddr,
}

impl<S> Serve for Observe<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    type Body = ObservedBody;
    type Connected = Self;

    fn connected(&self, peer: SocketAddr) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            peer: peer.ip(),
        }
    }
}

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pending = ObservedRequest::begin(&self.shared, self.peer, &request);
        let inner = pending.record.context.enter(|| self.inner.call(request));
        ObserveFuture {
            inner,
            pending: Some(pending),
        }
    }
}

pin_project! {
    /// The work on a request, up to the head of its response.
    pub struct ObserveFuture<F> {
        #[pin]
        inner: F,
        pending: Option<Box<ObservedRequest>>,
    }
}

impl<F> Future for ObserveFuture<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response<ObservedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(pending) = this.pending.as_mut() else {
            unreachable!("polled after the end")
        };
        let inner = this.inner;
        let response = match ready!(pending.polled(|| inner.poll(cx))) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let Some(mut pending) = this.pending.take() else {
            unreachable!("polled after the end")
        };
        let (mut parts, body) = response.into_parts();
        pending.status = Some(parts.status.as_u16());
        pending.record.failure = parts.extensions.remove::<ReportedProblem>();
        write_headers(&mut parts.headers, &pending);
        // The server drops the body of an answer to HEAD without reading it.
        let stream = pending.record.context.stream.get().is_some();
        let ended = pending.record.context.method == "HEAD" || body.is_end_stream() || stream;
        let mut body = ObservedBody {
            inner: body,
            // A stream is recorded at its head. Its later log lines keep the ids of the request.
            context: if stream {
                Some(Arc::clone(&pending.record.context))
            } else {
                None
            },
            pending: Some(pending),
            held: false,
        };
        if ended {
            finish(&mut body.pending);
        }
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}

/// Adds the headers that every answer carries.
fn write_headers(headers: &mut HeaderMap, pending: &ObservedRequest) {
    if let Ok(id) = HeaderValue::from_str(&pending.record.context.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Ok(trace) = HeaderValue::from_bytes(&trace_response(&pending.record.context)) {
        headers.insert(TRACE_RESPONSE, trace);
    }
    secure(headers, pending.shared.tls);
    if pending.shared.server_timing {
        write_timing(headers, pending.record.context.began);
    }
    if pending.version < Version::HTTP_2 && pending.shared.lifecycle.state() >= State::Draining {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn write_timing(headers: &mut HeaderMap, began: Instant) {
    let millis = began.elapsed().as_secs_f64() * 1e3;
    if let Ok(timing) = HeaderValue::from_str(&format!("app;dur={millis:.3}")) {
        headers.insert(SERVER_TIMING, timing);
    }
}

/// `00-<trace id>-<span id>-<flags>` in hexadecimal, written without the cost of `fmt`.
fn trace_response(context: &RequestContext) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let trace = hex::digits(context.trace_id.to_bytes());
    text[3..35].copy_from_slice(trace.as_flattened());
    let span = hex::digits(context.span_id.to_bytes());
    text[36..52].copy_from_slice(span.as_flattened());
    text[54] = if context.sampled { b'1' } else { b'0' };
    text
}

pin_project! {
    /// A response body that completes the record of its request.
    pub struct ObservedBody {
        #[pin]
        inner: Body,
        context: Option<Arc<RequestContext>>,
        pending: Option<Box<ObservedRequest>>,
        held: bool,
    }
}

impl Answer for ObservedBody {
    fn hold(&mut self) {
        self.held = true;
    }
}

impl ObservedBody {
    /// The body of an answer that is not observed.
    #[must_use]
    pub fn unobserved(inner: Body) -> Self {
        Self {
            inner,
            context: None,
            pending: None,
            held: false,
        }
    }
}

fn finish(pending: &mut Option<Box<ObservedRequest>>) {
    if let Some(mut pending) = pending.take() {
        pending.complete = true;
    }
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let mut inner = this.inner;
        let mut poll = || inner.as_mut().poll_frame(cx);
        let frame = ready!(match (this.pending.as_mut(), this.context) {
            (Some(pending), _) => pending.polled(poll),
            (None, Some(context)) => context.enter(poll),
            (None, None) => poll(),
        });
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(pending)) = (frame.data_ref(), this.pending.as_mut()) {
                    pending.record.response_bytes += data.len() as u64;
                }
                // The body is not polled after trailers.
                if frame.is_trailers() || (!*this.held && inner.is_end_stream()) {
                    finish(this.pending);
                }
            }
            None => finish(this.pending),
            // A request that is dropped before its end is recorded as 499.
            Some(Err(_)) => drop(this.pending.take()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
