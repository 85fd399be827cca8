//! One request on a connection and its answer. It is in flight from the request's head to the last
//! byte of the answer.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;

use crate::connection::deadlines::{ConnectionDeadlines, InFlightRequest};
use crate::connection::delivery::{Offer, Pieces};
use crate::connection::discard_body::{RequestBody, UnreadBody};

/// The service that hyper calls for each request of a connection.
pub(crate) struct InFlightService<S> {
    /// hyper calls it from the connection's own task, so that no clone for each request is needed.
    service: RefCell<S>,
    watch: ConnectionDeadlines,
}

impl<S> InFlightService<S> {
    /// A service for the connection that `watch` follows.
    pub(crate) fn new(service: S, watch: ConnectionDeadlines) -> Self {
        Self {
            service: RefCell::new(service),
            watch,
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for InFlightService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: Answer + Send + 'static,
{
    type Response = Response<InFlightBody<B>>;
    type Error = Infallible;
    type Future = InFlightFuture<S::Future, B>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let flight = self.watch.begin();
        let (head, body) = request.into_parts();
        // A client with `Expect: 100-continue` has not sent the body. Reading it would make hyper
        // answer `100 Continue`.
        let fault = flight.fault();
        let unread =
            fault.is_none() && !body.is_end_stream() && !head.headers.contains_key(header::EXPECT);
        let leftover = unread.then(UnreadBody::default);
        let body = match &leftover {
            Some(leftover) => Body::new(RequestBody::new(body, leftover)),
            // An empty body needs no box.
            None if body.is_end_stream() => Body::empty(),
            None => Body::new(body),
        };
        let mut request = Request::from_parts(head, body);
        if let Some(fault) = fault {
            request.extensions_mut().insert(fault);
        }
        InFlightFuture {
            answering: self.service.borrow_mut().call(request),
            leftover,
            discarding: None,
            flight: Some(flight),
        }
    }
}

// Not an `async` block, which would hold the awaited future twice and move it at every request.
pin_project! {
    /// The work on a request, up to the head of its answer.
    pub(crate) struct InFlightFuture<F, B> {
        #[pin]
        answering: F,
        leftover: Option<UnreadBody>,
        // The answer, while the rest of the request is discarded.
        discarding: Option<BoxFuture<'static, Response<B>>>,
        flight: Option<InFlightRequest>,
    }
}

impl<F, B> Future for InFlightFuture<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Answer + Send + 'static,
{
    type Output = Result<Response<InFlightBody<B>>, Infallible>;

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
        let mut flight = this.flight.take();
        let mut pieces = None;
        let mut http2 = false;
        if let Some(flight) = &mut flight {
            http2 = flight.answer();
            if http2 && !flight.watch().fits(answer.body()) {
                answer.body_mut().hold();
                pieces = Some(Box::default());
            }
            if flight.fault().is_some() {
                // Nothing more is read from this connection.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                flight.upgrade();
            }
        }
        Poll::Ready(Ok(answer.map(|body| InFlightBody {
            body,
            pieces,
            http2,
            flight,
        })))
    }
}

/// The body of an answer.
pub trait Answer: HttpBody<Data = Bytes> {
    /// Counts the body as sent when it is polled after its last data, instead of with its last
    /// data.
    fn hold(&mut self);
}

/// The end of a plain body is not recorded.
impl Answer for Body {
    fn hold(&mut self) {}
}

pin_project! {
    /// A body that keeps its request in flight until it has ended.
    pub(crate) struct InFlightBody<B> {
        #[pin]
        body: B,
        // Present when the body may not fit into the client's windows.
        pieces: Option<Box<Pieces>>,
        http2: bool,
        flight: Option<InFlightRequest>,
    }
}

impl<B: Answer> HttpBody for InFlightBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        let Some(flight) = this.flight.as_ref().filter(|_| *this.http2) else {
            return this.body.poll_frame(cx);
        };
        if let Some(pieces) = this.pieces {
            return poll_pieces(this.body, pieces, flight.watch(), cx);
        }
        let polled = this.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            flight.watch().spend(data.len());
            Offer::Piece { taken: 0 }.tell();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The next piece of a body that may not fit into the client's windows.
fn poll_pieces<B: Answer>(
    body: Pin<&mut B>,
    pieces: &mut Pieces,
    watch: &ConnectionDeadlines,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    let taken = pieces.asked();
    let piece = match pieces.next(watch) {
        Some(piece) => piece,
        None => match body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    pieces.put(data);
                    pieces.next(watch).unwrap_or_default()
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            },
            other => {
                Offer::Nothing.tell();
                return other;
            }
        },
    };
    watch.spend(piece.len());
    Offer::Piece { taken }.tell();
    Poll::Ready(Some(Ok(Frame::data(piece))))
}
