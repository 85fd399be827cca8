//! One layer for what can end a request early: too many at once (shed at once,
//! never queued), too slow (the deadline), or a panic (answered; the process lives).
//!
//! Streams have no deadline. The timer is made only when the inner work was not ready at its first poll:
//! most requests never need one.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::Request;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::{Layer, Service};

use crate::platform::http::problem::{Problem, codes};
use crate::platform::http::stream::is_stream;
use crate::platform::observe::HttpMetrics;
use crate::platform::telemetry::logs::Panicked;

/// Installs [`Guard`], for the life of the process: a request holds what is shared without
/// counting who does.
#[derive(Clone, Copy)]
pub struct GuardLayer(&'static Shared);

struct Shared {
    max_in_flight: u32,
    request_timeout: Duration,
    metrics: HttpMetrics,
    /// Requests in work now.
    in_flight: AtomicU32,
}

impl GuardLayer {
    /// A layer that lets `max_in_flight` requests in at once, each for `request_timeout`,
    /// and counts in `metrics` what is shed.
    #[must_use]
    pub fn new(max_in_flight: u32, request_timeout: Duration, metrics: HttpMetrics) -> Self {
        Self(Box::leak(Box::new(Shared {
            max_in_flight,
            request_timeout,
            metrics,
            in_flight: AtomicU32::new(0),
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

/// Sheds, times out and catches panics.
#[derive(Clone)]
pub struct Guard<S> {
    inner: S,
    shared: &'static Shared,
}

/// A place among the requests in work, if there was one; given back when dropped.
struct Place {
    shared: &'static Shared,
    taken: bool,
}

impl Place {
    fn take(shared: &'static Shared) -> Self {
        let mut place = Self {
            shared,
            taken: true,
        };
        if shared.in_flight.fetch_add(1, Ordering::Relaxed) >= shared.max_in_flight {
            place.leave();
        }
        place
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let place = Place::take(self.shared);
        Guarded {
            // Not `then`: a closure would move the request once more.
            inner: if place.taken {
                Some(self.inner.call(request))
            } else {
                None
            },
            sleep: None,
            place,
        }
    }
}

pin_project! {
    /// The guarded work on a request.
    pub struct Guarded<F> {
        #[pin]
        inner: Option<F>,
        // In a box: it is rare, and would make larger what is moved at every request.
        sleep: Option<Pin<Box<Sleep>>>,
        place: Place,
    }
}

impl<F> Future for Guarded<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            this.place
                .shared
                .metrics
                .shed
                .with_label_values(&["in_flight"])
                .inc();
            let problem = Problem::new(codes::OVERLOADED, "Too many requests are in work.");
            return Poll::Ready(Ok(problem.retry_after(1).into_response()));
        };
        // The inner future is dropped after a panic, not polled again.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx)));
        match polled {
            Ok(Poll::Ready(response)) => return Poll::Ready(response),
            Ok(Poll::Pending) => {}
            Err(payload) => {
                this.inner.set(None);
                let cause = Panicked::caught(payload.as_ref());
                return Poll::Ready(Ok(Problem::internal(cause).into_response()));
            }
        }
        if is_stream() {
            // Also when the route was found only after the first wait.
            *this.sleep = None;
            return Poll::Pending;
        }
        let timeout = this.place.shared.request_timeout;
        let sleep = this
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => {
                this.inner.set(None);
                this.place.leave();
                let problem = Problem::new(
                    codes::DEADLINE_EXCEEDED,
                    "The request took longer than this service allows.",
                );
                Poll::Ready(Ok(problem.retry_after(1).into_response()))
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
        GuardLayer::new(max_in_flight, request_timeout, metrics)
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
        let failure = response
            .extensions()
            .get::<crate::platform::http::problem::Failure>();
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
        assert_eq!(layer.0.in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn beyond_the_deadline_the_work_is_dropped() {
        let layer = layer(1, Duration::from_millis(30));
        let began = std::time::Instant::now();
        let answer = call(&layer, std::future::pending).await;
        assert_eq!(answer, (503, Some("DEADLINE_EXCEEDED")));
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(layer.0.in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn one_too_many_is_shed_without_running() {
        let layer = layer(0, Duration::from_secs(1));
        let answer = call(&layer, || async { unreachable!("it must not run") }).await;
        assert_eq!(answer, (503, Some("OVERLOADED")));
        assert_eq!(
            layer.0.metrics.shed.with_label_values(&["in_flight"]).get(),
            1
        );
    }
}
