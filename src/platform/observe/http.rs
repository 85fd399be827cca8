//! The HTTP adapter: the outermost layer, outside of timeout, shedding and panic
//! handling, so that nothing happens unseen.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::trace::{SpanId, TraceId};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::context::Entered;
use super::propagation;
use super::span::span_context;
use super::{BodyLimits, Observer, Remote, RequestContext, RequestRecord, RouteMetrics};
use crate::platform::http::ClientAddress;
use crate::platform::http::problem::Failure;
use crate::platform::telemetry::traces::context_of;

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Installs [`Observe`].
#[derive(Clone)]
pub struct ObserveLayer {
    /// Who writes the records.
    pub observer: Arc<Observer>,
    /// Finds the client behind proxies.
    pub client_address: Arc<ClientAddress>,
    /// Limits that extractors read.
    pub limits: BodyLimits,
    /// While true, answers ask HTTP/1.1 clients to close their connection.
    pub draining: tokio_util::sync::CancellationToken,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            shared: Arc::new(self.clone()),
        }
    }
}

/// Gives every request its context, and writes its record at its end.
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    shared: Arc<ObserveLayer>,
}

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pending = Pending::begin(Arc::clone(&self.shared), &request);
        let _entered = Entered::new(&pending.context);
        let inner = self.inner.call(request);
        Observed {
            inner,
            pending: Some(pending),
        }
    }
}

/// A request that has not ended; its record is written when this is dropped.
struct Pending {
    shared: Arc<ObserveLayer>,
    context: Arc<RequestContext>,
    route: Arc<RouteMetrics>,
    /// Shared with the connection's buffer: no text of the request is copied.
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    remote: Option<Remote>,
    version: Version,
    started: SystemTime,
    clock: Instant,
    busy: Duration,
    /// Known once the response's head is.
    status: Option<u16>,
    failure: Option<Failure>,
    response_bytes: u64,
    /// The response body has ended.
    complete: bool,
}

impl Pending {
    fn begin(shared: Arc<ObserveLayer>, request: &Request<Body>) -> Self {
        let route: Arc<str> = match request.extensions().get::<MatchedPath>() {
            Some(path) => Arc::from(path.as_str()),
            None => Arc::from("unmatched"),
        };
        let method = method_label(request.method());
        let metrics = shared.observer.routes.metrics();
        let resolved = shared.client_address.resolve(request);
        if resolved.untrusted_headers {
            metrics.untrusted_forwarded.inc();
        }
        metrics.in_flight.inc();
        let headers = request.headers();
        let traces = &shared.observer.traces;
        let remote = traces
            .reads_trace_context()
            .then(|| propagation::remote(headers, resolved.trusted))
            .flatten();
        let parent = Remote::parent(remote.as_ref());
        let trace_id = parent.map_or_else(
            || TraceId::from_bytes(rand::random()),
            opentelemetry::trace::SpanContext::trace_id,
        );
        let parent_sampled = parent.map(opentelemetry::trace::SpanContext::is_sampled);
        let mut context = RequestContext {
            request_id: request_id(headers),
            trace_id,
            span_id: SpanId::from_bytes(rand::random()),
            sampled: traces.decide(trace_id, parent_sampled),
            span: None,
            method,
            client_address: resolved.address,
            limits: shared.limits,
            principal: std::sync::OnceLock::new(),
            route: Arc::clone(&route),
        };
        if context.sampled {
            let baggage = if resolved.trusted && traces.reads_baggage() {
                propagation::baggage(headers)
            } else {
                opentelemetry::Context::new()
            };
            let span = span_context(&context, remote.as_ref());
            context.span = Some(context_of(span, &baggage));
        }
        Self {
            route: shared.observer.routes.resolve(method, &route),
            context: Arc::new(context),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: headers.get(header::HOST).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            remote,
            shared,
            version: request.version(),
            started: SystemTime::now(),
            clock: Instant::now(),
            busy: Duration::ZERO,
            status: None,
            failure: None,
            response_bytes: 0,
            complete: false,
        }
    }

    /// Polls the inner work in the context of the request, and counts its time.
    fn polled<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _entered = Entered::new(&self.context);
        let began = Instant::now();
        let result = work();
        self.busy += began.elapsed();
        result
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _entered = Entered::new(&self.context);
        self.shared.observer.routes.metrics().in_flight.dec();
        let status = match self.status {
            Some(status) if self.complete => status,
            _ => 499,
        };
        let record = RequestRecord {
            context: Arc::clone(&self.context),
            route: Arc::clone(&self.route),
            method: std::mem::take(&mut self.method),
            uri: std::mem::take(&mut self.uri),
            host: self.host.take(),
            user_agent: self.user_agent.take(),
            remote: self.remote.take(),
            started: self.started,
            duration: self.clock.elapsed(),
            busy: self.busy,
            status,
            response_bytes: self.response_bytes,
            protocol_version: if self.version == Version::HTTP_2 {
                "2"
            } else {
                "1.1"
            },
            failure: self.failure.take(),
        };
        self.shared.observer.record(&record);
    }
}

pin_project! {
    /// The work on a request, up to the head of its response.
    pub struct Observed<F> {
        #[pin]
        inner: F,
        pending: Option<Pending>,
    }
}

impl<F> Future for Observed<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

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
        pending.failure = parts.extensions.remove::<Failure>();
        write_headers(&mut parts.headers, &pending);
        // The server drops the body of an answer to HEAD unread.
        let ended = pending.context.method == "HEAD" || body.is_end_stream();
        let mut body = ObservedBody {
            inner: body,
            pending: Some(pending),
        };
        if ended {
            finish(&mut body.pending);
        }
        let body = Body::new(body);
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}

/// One pass over the headers that every answer carries.
fn write_headers(headers: &mut HeaderMap, pending: &Pending) {
    if let Ok(id) = HeaderValue::from_str(&pending.context.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers
        .entry(http::header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    if pending.version < Version::HTTP_2 && pending.shared.draining.is_cancelled() {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
}

pin_project! {
    /// A response body that knows when it has ended.
    struct ObservedBody {
        #[pin]
        inner: Body,
        pending: Option<Pending>,
    }
}

fn finish(pending: &mut Option<Pending>) {
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
        let frame = match this.pending.as_mut() {
            Some(pending) => ready!(pending.polled(|| inner.as_mut().poll_frame(cx))),
            None => ready!(inner.as_mut().poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(pending)) = (frame.data_ref(), this.pending.as_mut()) {
                    pending.response_bytes += data.len() as u64;
                }
                if inner.is_end_stream() {
                    finish(this.pending);
                }
            }
            None => finish(this.pending),
            // Dropping what is pending without its end writes 499.
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

/// One of the nine methods of RFC 9110 and RFC 5789, or `other`.
#[must_use]
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// The client's id when it is short and visible ASCII, else a new one.
fn request_id(headers: &HeaderMap) -> Box<str> {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic())
        })
        .map_or_else(
            || uuid::Uuid::now_v7().to_string().into_boxed_str(),
            Box::from,
        )
}
