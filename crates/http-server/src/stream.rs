//! Streams: answers without an end of their own (server-sent events, WebSockets, long polls).
//! [`StreamLayer`] marks their routes. A stream is timed to the head of its answer and has no
//! whole-request deadline.

use std::task::{Context, Poll};

use request::RequestContext;
use tower::{Layer, Service};

/// Layer that marks the requests of a route as streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamLayer;

impl<S> Layer<S> for StreamLayer {
    type Service = Stream<S>;

    fn layer(&self, inner: S) -> Stream<S> {
        Stream(inner)
    }
}

/// The service of [`StreamLayer`].
#[derive(Debug, Clone)]
pub struct Stream<S>(S);

impl<S, R> Service<R> for Stream<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        // A second mark has no effect.
        let _marked = RequestContext::with(|context| context.stream.set(()));
        self.0.call(request)
    }
}

/// Whether the request that this thread is polling is a stream.
#[must_use]
pub fn is_stream() -> bool {
    RequestContext::with(|context| context.stream.get().is_some()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::StreamLayer;
    use crate::connection::Serve as _;
    use crate::observe::{HttpMetrics, Observer, RouteTable};
    use crate::{Config, middleware};
    use lifecycle::{Lifecycle, LifecycleMetrics};
    use limits::{RateLimitMetrics, RateLimits};
    use settings::{Layers, Reader};
    use telemetry::{self, Telemetry};

    const SERVICE: telemetry::Service = telemetry::Service {
        name: "test",
        version: "0",
        revision: "0",
        modules: &[],
        packages: &[],
    };
    const DEADLINE: &str = "50ms";

    /// Waits for longer than the deadline, then answers with a body that never ends.
    async fn slow() -> Body {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Body::from_stream(futures_util::stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >())
    }

    #[tokio::test]
    async fn a_marked_route_has_no_deadline_and_is_recorded_at_its_head() {
        let environment = [
            ("RUST_LOG", "off"),
            ("APP__HTTP__REQUEST_TIMEOUT", DEADLINE),
            ("APP__RATE_LIMIT__ENABLED", "false"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let nowhere = Path::new("/nonexistent");
        let mut reader = Reader::new(Layers::load(nowhere, nowhere, environment));
        // The process of the tests keeps its own panic hook.
        let hook = std::panic::take_hook();
        let telemetry = Telemetry::start(
            SERVICE,
            &telemetry::Config::read(&mut reader),
            &BTreeMap::default(),
            request::RequestContext::correlate,
        )
        .unwrap();
        std::panic::set_hook(hook);
        let registry = &telemetry.registry;
        let metrics = HttpMetrics::register(registry).unwrap();
        let limits = RateLimits::new(
            &limits::rate::Config::read(&mut reader),
            &RateLimitMetrics::register(registry).unwrap(),
        )
        .unwrap();
        let router = Router::new()
            .route("/stream", get(slow).layer(StreamLayer))
            .route("/plain", get(slow));
        let observer = Observer::new(
            RouteTable::new(metrics.clone(), telemetry.exemplars.clone(), [], []),
            telemetry.logs.clone(),
            telemetry.traces.clone(),
            100,
        );
        let service = middleware::around(
            router,
            Router::new(),
            &Config::read(&mut reader),
            Arc::new(observer),
            &limits,
            Lifecycle::new(LifecycleMetrics::register(registry).unwrap()),
        );
        let peer = "192.0.2.1:4711".parse().unwrap();
        let ask = async |path: &str| {
            let request = axum::http::Request::get(path).header("host", "x");
            let request = request.body(Body::empty()).unwrap();
            service.connected(peer).oneshot(request).await.unwrap()
        };
        let recorded = |path: &str, status: &str| {
            metrics
                .requests
                .with_label_values(&["GET", path, status])
                .get()
        };

        let plain = ask("/plain").await;
        assert_eq!(plain.status(), 503);
        plain.into_body().collect().await.unwrap();
        assert_eq!(recorded("/plain", "503"), 1);

        let stream = ask("/stream").await;
        assert_eq!(stream.status(), 200);
        assert_eq!(recorded("/stream", "200"), 1, "before its body has ended");
        assert_eq!(metrics.in_flight.get(), 0);
        drop(stream);
        assert_eq!(
            recorded("/stream", "499"),
            0,
            "leaving a stream is no abort"
        );
    }
}
