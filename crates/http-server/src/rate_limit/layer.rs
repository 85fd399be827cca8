//! The service that a limit puts around an inner one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::BoxFuture;
use governor::clock::QuantaInstant;
use governor::middleware::NoOpMiddleware;
use http::Request;
use pin_project_lite::pin_project;
use prometheus::IntCounter;
use tower::{Layer, Service};
use tower_governor::GovernorLayer;
use tower_governor::governor::Governor;

use crate::rate_limit::keys::ContextKey;
use crate::rate_limit::limit::Limit;

type Local<S> = Governor<ContextKey, NoOpMiddleware<QuantaInstant>, CountAllowed<S>, Body>;

/// The shared buckets decide when there are any, else the limiter of this process.
#[derive(Clone)]
pub struct RateLimitService<S> {
    limit: Limit,
    local: Local<S>,
}

impl<S> Layer<S> for Limit {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let refusing = self.clone();
        let local = GovernorLayer::new(self.governing())
            .error_handler(move |error| refusing.refuse_locally(&error))
            .layer(CountAllowed {
                inner,
                allowed: self.allowed(),
            });
        RateLimitService {
            limit: self.clone(),
            local,
        }
    }
}

impl<S> Service<Request<Body>> for RateLimitService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RateLimitFuture<<Local<S> as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.local.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(asked) = self.limit.ask() else {
            return RateLimitFuture::Local {
                future: self.local.call(request),
            };
        };
        let limit = self.limit.clone();
        // The clone stays for the next request. The ready service handles this one.
        let waiting = self.local.clone();
        let mut local = std::mem::replace(&mut self.local, waiting);
        let future = Box::pin(async move {
            match asked.await {
                Some(Ok(())) => local.inner.call(request).await,
                Some(Err(wait)) => Ok(limit.refuse(wait)),
                None => local.call(request).await,
            }
        });
        RateLimitFuture::SharedBuckets { future }
    }
}

pin_project! {
    /// The decision, and the work that follows it.
    #[project = RateLimitProjection]
    pub enum RateLimitFuture<F> {
        /// The local limiter decides at once.
        Local {
            #[pin]
            future: F,
        },
        /// Waits for the shared decision first. A round trip takes far longer than the box.
        SharedBuckets {
            future: BoxFuture<'static, Result<Response, Infallible>>,
        },
    }
}

impl<F> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            RateLimitProjection::Local { future } => future.poll(cx),
            RateLimitProjection::SharedBuckets { future } => future.as_mut().poll(cx),
        }
    }
}

/// Counts allowed requests. It is inside the limiter, so that refused ones do not reach it.
#[derive(Clone)]
pub struct CountAllowed<S> {
    inner: S,
    allowed: IntCounter,
}

impl<S, R> Service<R> for CountAllowed<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.allowed.inc();
        self.inner.call(request)
    }
}
