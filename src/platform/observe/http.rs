//! The HTTP adapter: the outermost layer, outside of timeout, shedding and panic
//! handling, so that nothing happens unseen.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::context::Entered;
use super::pending::Pending;
use super::{BodyLimits, Observer};
use crate::platform::http::ClientAddress;
use crate::platform::http::problem::Failure;

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
