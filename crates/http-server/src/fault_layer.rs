//! The layer that injects faults into requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::MatchedPath;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{BoxFuture, Either};
use http::Request;
use request::Problem;
use request::faults::{Effect, Faults};
use request::problem::codes;
use tower::{Layer, Service};

use crate::problem::ProblemResponse;

/// Installs [`InjectFault`].
#[derive(Clone)]
pub struct FaultLayer(pub Faults);

impl<S> Layer<S> for FaultLayer {
    type Service = InjectFault<S>;

    fn layer(&self, inner: S) -> InjectFault<S> {
        InjectFault {
            inner,
            faults: self.0.clone(),
        }
    }
}

/// Applies the fault of a request's route. A request without a fault costs one load.
#[derive(Clone)]
pub struct InjectFault<S> {
    inner: S,
    faults: Faults,
}

impl<S, B> Service<Request<B>> for InjectFault<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let route = request.extensions().get::<MatchedPath>();
        let method = request.method().as_str();
        let effect = route.and_then(|route| {
            let effect = self.faults.effect(method, route.as_str())?;
            Some((route.clone(), effect))
        });
        match effect {
            None => Either::Left(self.inner.call(request)),
            Some((route, effect)) => {
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let faults = self.faults.clone();
                let route = Arc::from(route.as_str());
                Either::Right(Box::pin(inject(faults, route, effect, ready, request)))
            }
        }
    }
}

async fn inject<S, B>(
    faults: Faults,
    route: Arc<str>,
    effect: Effect,
    mut inner: S,
    request: Request<B>,
) -> Result<Response, Infallible>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    if let Some(latency) = effect.latency {
        faults.injected("latency", &route);
        tokio::time::sleep(latency).await;
    }
    if effect.panic {
        faults.injected("panic", &route);
        // This panic is the injected fault.
        panic!("injected fault");
    }
    if let Some(status) = effect.status {
        faults.injected("error", &route);
        let problem = Problem::new(
            codes::FAULT_INJECTED,
            "A fault was injected into this request.",
        );
        let problem = problem.status(status);
        // These two statuses always carry `Retry-After`.
        let problem = match status {
            429 | 503 => problem.retry_after(1),
            _ => problem,
        };
        return Ok(ProblemResponse(problem).into_response());
    }
    inner.call(request).await
}
