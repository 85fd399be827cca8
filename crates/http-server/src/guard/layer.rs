//! One layer for everything that ends a request early: load shedding (at once, without a queue),
//! the deadline, and panics (answered, while the process continues).
//!
//! A request holds a place while it is in progress, and none while its body arrives (`arrival.rs`).
//! Streams have no deadline. The timer is created only when the inner work is not ready at its
//! first poll. Most requests need none.

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
use pin_project_lite::pin_project;
use request::Problem;
use request::problem::codes;
use telemetry::logs::CaughtPanic;
use tokio::time::Sleep;
use tower::{Layer, Service};

use crate::guard::arrival::{ArrivingBody, PlaceHolder};
use crate::guard::places::{NoPlace, Place, PlaceLimits, Places};
use crate::observe::HttpMetrics;
use crate::problem::ProblemResponse;
use crate::stream::is_stream;

/// Installs [`Guard`]. Leaked once at start-up, so that requests hold a `&'static` reference
/// instead of cloning an `Arc`.
#[derive(Clone, Copy)]
pub struct GuardLayer(&'static GuardState);

struct GuardState {
    request_timeout: Duration,
    places: Places,
}

impl GuardLayer {
    /// A layer that admits requests within `limits`, each for `request_timeout`. `metrics` counts
    /// the requests that it sheds.
    #[must_use]
    pub fn new(limits: PlaceLimits, request_timeout: Duration, metrics: HttpMetrics) -> Self {
        Self(Box::leak(Box::new(GuardState {
            request_timeout,
            places: Places::new(limits, metrics),
        })))
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            shared: self.0,
        }
    }
}

/// Sheds requests, ends them at the deadline and catches panics.
#[derive(Clone)]
pub struct Guard<S> {
    inner: S,
    shared: &'static GuardState,
}

/// The place of a request in progress.
enum HeldPlace {
    /// The request has no body, or all of it has arrived.
    Place { _place: Place },
    /// The body may give up the place.
    Shared(Arc<PlaceHolder>),
    /// No place was free.
    Refused(NoPlace),
    /// The work was ended at the deadline.
    Nothing,
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        if let Self::Shared(holder) = self {
            holder.leave();
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
        let places = &self.shared.places;
        // Not `then`, because a closure would move the request once more.
        let (inner, hold) = match places.take() {
            Err(full) => (None, HeldPlace::Refused(full)),
            Ok(place) if request.body().is_end_stream() => {
                let hold = HeldPlace::Place { _place: place };
                (Some(self.inner.call(request)), hold)
            }
            Ok(place) => {
                let holder = PlaceHolder::new(places, place);
                let body_holder = Arc::clone(&holder);
                let request = request.map(|body| Body::new(ArrivingBody::new(body, body_holder)));
                (Some(self.inner.call(request)), HeldPlace::Shared(holder))
            }
        };
        GuardFuture {
            inner,
            sleep: None,
            hold,
            shared: self.shared,
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
        hold: HeldPlace,
        shared: &'static GuardState,
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
            let problem = match this.hold {
                HeldPlace::Refused(full) => full.problem(),
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
        let timeout = this.shared.request_timeout;
        let sleep = this
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => {
                this.inner.set(None);
                *this.hold = HeldPlace::Nothing;
                tracing::debug!(?timeout, "the request took too long and is given up");
                let problem = Problem::new(
                    codes::DEADLINE_EXCEEDED,
                    "The request took longer than this service allows.",
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
    use prometheus::Registry;
    use tower::ServiceExt as _;

    fn layer(max_in_flight: u32, request_timeout: Duration) -> GuardLayer {
        let metrics = HttpMetrics::register(&Registry::new()).unwrap();
        let limits = PlaceLimits {
            in_flight: max_in_flight,
            in_flight_per_client: max_in_flight,
            bodies: 1,
            bodies_per_client: 1,
        };
        GuardLayer::new(limits, request_timeout, metrics)
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
    async fn a_panic_is_an_internal_error_and_gives_its_place_back() {
        let layer = layer(1, Duration::from_secs(1));
        for _ in 0..2 {
            let answer = call(&layer, || async { panic!("of a handler") }).await;
            assert_eq!(answer, (500, Some("INTERNAL")));
        }
        assert_eq!(layer.0.places.in_flight(), 0);
    }

    #[tokio::test]
    async fn beyond_the_deadline_the_work_is_dropped() {
        let layer = layer(1, Duration::from_millis(30));
        let began = std::time::Instant::now();
        let answer = call(&layer, std::future::pending).await;
        assert_eq!(answer, (503, Some("DEADLINE_EXCEEDED")));
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(layer.0.places.in_flight(), 0);
    }

    #[tokio::test]
    async fn one_too_many_is_shed_without_running() {
        let layer = layer(0, Duration::from_secs(1));
        let answer = call(&layer, || async { unreachable!("it must not run") }).await;
        assert_eq!(answer, (503, Some("OVERLOADED")));
        assert_eq!(layer.0.places.shed("in_flight"), 1);
    }
}
