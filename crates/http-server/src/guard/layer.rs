//! One layer for everything that ends a request early: load shedding (at once, without a queue),
//! the deadline, and panics (answered, while the process continues).
//!
//! A request holds a permit while it is in progress, and another one while its body arrives
//! (`arrival.rs`). Streams have no deadline. The timer is created only when the inner work is not
//! ready at its first poll. Most requests need none.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::Request;
use http_body::Body as _;
use limits::concurrency::{Concurrency, Overloaded, Permit};
use pin_project_lite::pin_project;
use request::Problem;
use request::problem::codes;
use telemetry::logs::CaughtPanic;
use tokio::time::Sleep;
use tower::{Layer, Service};

use crate::guard::arrival::{ArrivingBody, PermitHolder};
use crate::problem::ProblemResponse;
use crate::stream::is_stream;

/// Installs [`Guard`].
#[derive(Clone)]
pub struct GuardLayer {
    request_timeout: Duration,
    concurrency: Arc<Concurrency>,
}

impl GuardLayer {
    /// A layer that admits requests within the limits, each for `request_timeout`.
    #[must_use]
    pub fn new(concurrency: Concurrency, request_timeout: Duration) -> Self {
        Self {
            request_timeout,
            concurrency: Arc::new(concurrency),
        }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            request_timeout: self.request_timeout,
            concurrency: Arc::clone(&self.concurrency),
        }
    }
}

/// Sheds requests, ends them at the deadline and catches panics.
#[derive(Clone)]
pub struct Guard<S> {
    inner: S,
    request_timeout: Duration,
    concurrency: Arc<Concurrency>,
}

/// Whether a request was admitted, with its permit.
enum RequestState {
    /// The request has no body, or all of it has arrived.
    Admitted { _permit: Permit },
    /// The body may exchange the permit.
    WithBody(Arc<PermitHolder>),
    /// A limit was reached.
    Refused(Overloaded),
    /// The work was ended at the deadline.
    Ended,
}

impl Drop for RequestState {
    fn drop(&mut self) {
        if let Self::WithBody(holder) = self {
            holder.release();
        }
    }
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = GuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let concurrency = &self.concurrency;
        // Not `then`, because a closure would move the request once more.
        let (inner, state) = match concurrency.admit() {
            Err(overloaded) => (None, RequestState::Refused(overloaded)),
            Ok(permit) if request.body().is_end_stream() => {
                let admitted = RequestState::Admitted { _permit: permit };
                (Some(self.inner.call(request)), admitted)
            }
            Ok(permit) => {
                let holder = PermitHolder::new(concurrency, permit);
                let body_holder = Arc::clone(&holder);
                let request = request.map(|body| Body::new(ArrivingBody::new(body, body_holder)));
                (
                    Some(self.inner.call(request)),
                    RequestState::WithBody(holder),
                )
            }
        };
        GuardFuture {
            inner,
            sleep: None,
            state,
            timeout: self.request_timeout,
        }
    }
}

pin_project! {
    /// The guarded work on a request.
    pub struct GuardFuture<F> {
        #[pin]
        inner: Option<F>,
        // Boxed, because it is rare and would enlarge the future that every request moves.
        sleep: Option<Pin<Box<Sleep>>>,
        state: RequestState,
        timeout: Duration,
    }
}

impl<F> Future for GuardFuture<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            let problem = match this.state {
                RequestState::Refused(overloaded) => Problem::from(&*overloaded),
                _ => unreachable!("polled after the end"),
            };
            return Poll::Ready(Ok(ProblemResponse(problem).into_response()));
        };
        // After a panic the inner future is dropped and not polled again.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx)));
        match polled {
            Ok(Poll::Ready(response)) => return Poll::Ready(response),
            Ok(Poll::Pending) => {}
            Err(payload) => {
                this.inner.set(None);
                let cause = CaughtPanic::caught(payload.as_ref());
                return Poll::Ready(Ok(ProblemResponse(Problem::internal(cause)).into_response()));
            }
        }
        if is_stream() {
            // A request may be marked as a stream only after its first wait.
            *this.sleep = None;
            return Poll::Pending;
        }
        let timeout = *this.timeout;
        let sleep = this
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => {
                this.inner.set(None);
                *this.state = RequestState::Ended;
                tracing::debug!(?timeout, "the request exceeded its deadline");
                let problem = Problem::new(
                    codes::DEADLINE_EXCEEDED,
                    "The request exceeded the time limit of this service.",
                );
                Poll::Ready(Ok(ProblemResponse(problem.retry_after(1)).into_response()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use limits::ConcurrencyLimits;
    use prometheus::Registry;
    use tower::ServiceExt as _;

    use crate::observe::HttpMetrics;

    fn layer(max_in_flight: u32, request_timeout: Duration) -> (GuardLayer, HttpMetrics) {
        let metrics = HttpMetrics::register(&Registry::new()).unwrap();
        let limits = ConcurrencyLimits {
            in_flight: max_in_flight,
            in_flight_per_client: max_in_flight,
            bodies: 1,
            bodies_per_client: 1,
        };
        let concurrency = Concurrency::new(limits, metrics.concurrency());
        (GuardLayer::new(concurrency, request_timeout), metrics)
    }

    async fn call<F>(
        layer: &GuardLayer,
        handler: impl Fn() -> F + Clone,
    ) -> (u16, Option<&'static str>)
    where
        F: Future<Output = Response>,
    {
        let service = layer.layer(tower::service_fn(move |_: Request<Body>| {
            let answer = handler();
            async move { Ok::<_, Infallible>(answer.await) }
        }));
        let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
        let failure = response.extensions().get::<request::ReportedProblem>();
        (
            response.status().as_u16(),
            failure.map(|failure| failure.code.code),
        )
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_frees_its_permit() {
        let (layer, _) = layer(1, Duration::from_secs(1));
        for _ in 0..2 {
            let answer = call(&layer, || async { panic!("of a handler") }).await;
            assert_eq!(answer, (500, Some("INTERNAL")));
        }
        assert_eq!(layer.concurrency.in_flight(), 0);
    }

    #[tokio::test]
    async fn beyond_the_deadline_the_work_is_dropped() {
        let (layer, _) = layer(1, Duration::from_millis(30));
        let began = std::time::Instant::now();
        let answer = call(&layer, std::future::pending).await;
        assert_eq!(answer, (503, Some("DEADLINE_EXCEEDED")));
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(layer.concurrency.in_flight(), 0);
    }

    #[tokio::test]
    async fn one_too_many_is_shed_without_running() {
        let (layer, metrics) = layer(0, Duration::from_secs(1));
        let answer = call(&layer, || async { unreachable!("it must not run") }).await;
        assert_eq!(answer, (503, Some("OVERLOADED")));
        assert_eq!(metrics.shed.with_label_values(&["in_flight"]).get(), 1);
    }
}
