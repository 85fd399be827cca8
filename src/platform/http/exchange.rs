//! One request on a connection and its answer: in flight from the request's head to the
//! last byte of the answer.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;

use super::unread::{Leftover, RequestBody};
use super::watch::{Flight, Watch};

/// What hyper calls for each request of a connection.
pub(super) struct Exchange<S> {
    /// hyper calls from the connection's own task; a clone a request is not needed.
    service: RefCell<S>,
    watch: Watch,
}

impl<S> Exchange<S> {
    /// Serves the connection that `watch` follows.
    pub(super) fn new(service: S, watch: Watch) -> Self {
        Self {
            service: RefCell::new(service),
            watch,
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Exchange<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: Send + 'static,
{
    type Response = Response<FlightBody<B>>;
    type Error = Infallible;
    type Future = Exchanging<S::Future, B>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let flight = self.watch.begin();
        let (head, body) = request.into_parts();
        // A client that asked first has sent nothing; to read would be to say yes.
        let fault = flight.fault();
        let unread =
            fault.is_none() && !body.is_end_stream() && !head.headers.contains_key(header::EXPECT);
        let leftover = unread.then(Leftover::default);
        let body = match &leftover {
            Some(leftover) => Body::new(RequestBody::new(body, leftover)),
            // Needs no box.
            None if body.is_end_stream() => Body::empty(),
            None => Body::new(body),
        };
        let mut request = Request::from_parts(head, body);
        if let Some(fault) = fault {
            request.extensions_mut().insert(fault);
        }
        Exchanging {
            answering: self.service.borrow_mut().call(request),
            leftover,
            discarding: None,
            flight: Some(flight),
        }
    }
}

// Not an `async` block, which would hold what it awaits twice, and move it at every request.
pin_project! {
    /// The work on a request, up to the head of its answer.
    pub(super) struct Exchanging<F, B> {
        #[pin]
        answering: F,
        leftover: Option<Leftover>,
        // The answer, once nothing of the request is on the wire any more.
        discarding: Option<BoxFuture<'static, Response<B>>>,
        flight: Option<Flight>,
    }
}

impl<F, B> Future for Exchanging<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Send + 'static,
{
    type Output = Result<Response<FlightBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = if let Some(discarding) = this.discarding {
            ready!(discarding.as_mut().poll(cx))
        } else {
            let Ok(answer) = ready!(this.answering.poll(cx));
            match this.leftover.take() {
                Some(leftover) => {
                    let discarding = this.discarding.insert(leftover.then(answer));
                    ready!(discarding.as_mut().poll(cx))
                }
                None => answer,
            }
        };
        let flight = this.flight.take();
        if let Some(flight) = &flight {
            if flight.fault().is_some() {
                // Nothing more is read from this connection.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                flight.upgrade();
            }
        }
        Poll::Ready(Ok(answer.map(|body| FlightBody {
            body,
            _flight: flight,
        })))
    }
}

pin_project! {
    /// A body that keeps its request in flight until it has ended.
    pub(super) struct FlightBody<B> {
        #[pin]
        body: B,
        _flight: Option<Flight>,
    }
}

impl<B: HttpBody> HttpBody for FlightBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
