//! Applies a [`RateLimit`] to requests, with `tower_governor`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::BoxFuture;
use governor::clock::QuantaInstant;
use governor::middleware::NoOpMiddleware;
use http::Request;
use limits::{LimitKey, RateLimit};
use pin_project_lite::pin_project;
use prometheus::IntCounter;
use request::Problem;
use tower::{Layer, Service};
use tower_governor::GovernorError;
use tower_governor::governor::{Governor, GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;

use crate::problem::ProblemResponse;

type Local<S> = Governor<ContextKey, NoOpMiddleware<QuantaInstant>, CountAllowed<S>, Body>;

/// Installs a rate limit.
#[derive(Clone)]
pub struct RateLimitLayer {
    limit: RateLimit,
    config: Arc<GovernorConfig<ContextKey, NoOpMiddleware<QuantaInstant>>>,
}

impl RateLimitLayer {
    /// A layer for this limit. `None` when there is no limit.
    #[must_use]
    pub fn new(limit: Option<&RateLimit>) -> Option<Self> {
        let limit = limit?.clone();
        let config = GovernorConfigBuilder::default()
            .key_extractor(ContextKey(limit.clone()))
            .finish()?;
        Some(Self {
            limit,
            config: Arc::new(config),
        })
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let allowed = self.limit.allowed();
        let limit = self.limit.clone();
        let mut local = Governor::new(CountAllowed { inner, allowed }, &self.config)
            .error_handler(move |error| refuse_locally(&limit, &error));
        // In place of the limiter that the builder made. This one also decides without HTTP.
        local.limiter = self.limit.limiter();
        RateLimitService {
            limit: self.limit.clone(),
            local,
        }
    }
}

/// Takes the key from the request's context.
#[derive(Clone)]
pub struct ContextKey(RateLimit);

impl KeyExtractor for ContextKey {
    type Key = LimitKey;

    fn extract<T>(&self, _: &Request<T>) -> Result<LimitKey, GovernorError> {
        self.0
            .admitted_key()
            .ok_or(GovernorError::UnableToExtractKey)
    }
}

fn refuse_locally(limit: &RateLimit, error: &GovernorError) -> Response {
    match error {
        GovernorError::TooManyRequests { wait_time, .. } => {
            refuse(limit, Duration::from_secs(*wait_time))
        }
        _ => ProblemResponse(Problem::internal(error.clone())).into_response(),
    }
}

fn refuse(limit: &RateLimit, wait: Duration) -> Response {
    ProblemResponse::from(limit.exceeded(wait)).into_response()
}

/// The shared buckets decide when there are any, else the limiter of this process.
#[derive(Clone)]
pub struct RateLimitService<S> {
    limit: RateLimit,
    local: Local<S>,
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
        let Some(decision) = self.limit.shared_decision() else {
            return RateLimitFuture::Local {
                future: self.local.call(request),
            };
        };
        let limit = self.limit.clone();
        // The clone stays for the next request. The ready service handles this one.
        let waiting = self.local.clone();
        let mut local = std::mem::replace(&mut self.local, waiting);
        let future = Box::pin(async move {
            match decision.await {
                Some(Ok(())) => local.inner.call(request).await,
                Some(Err(wait)) => Ok(refuse(&limit, wait)),
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
