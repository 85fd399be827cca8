//! A layer for requests with a given header only.
//!
//! Compression wraps every body that passes it, even when there is nothing to compress. Requests
//! without the header skip the layer. Requests with it allocate one boxed future.

use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use futures_util::{FutureExt as _, TryFutureExt as _};
use http::{HeaderName, Request};
use tower::{Layer, Service};

/// Puts `layer` around the requests that have `header`.
#[derive(Clone)]
pub(crate) struct HeaderGate<L> {
    pub(crate) header: HeaderName,
    pub(crate) layer: L,
}

impl<L, S> Layer<S> for HeaderGate<L>
where
    L: Layer<S>,
    S: Clone,
{
    type Service = HeaderGateService<S, L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        HeaderGateService {
            header: self.header.clone(),
            layered: self.layer.layer(inner.clone()),
            inner,
        }
    }
}

/// The service with and without the layer.
#[derive(Clone)]
pub(crate) struct HeaderGateService<S, T> {
    header: HeaderName,
    inner: S,
    layered: T,
}

impl<S, T, B> Service<Request<Body>> for HeaderGateService<S, T>
where
    S: Service<Request<Body>, Response = Response>,
    T: Service<Request<Body>, Response = http::Response<B>, Error = S::Error>,
    T::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        std::task::ready!(self.inner.poll_ready(cx))?;
        self.layered.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Comparing each name costs less than hashing this one.
        if request.headers().keys().any(|name| *name == self.header) {
            Either::Right(through(&mut self.layered, request))
        } else {
            Either::Left(self.inner.call(request))
        }
    }
}

fn through<T, B>(
    layered: &mut T,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response, T::Error>>
where
    T: Service<Request<Body>, Response = http::Response<B>, Future: Send + 'static>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let answer = layered.call(request);
    answer.map_ok(|response| response.map(Body::new)).boxed()
}
