//! Streams during a drain, with a test route on the platform's listener.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http_server::connection::ConnectionTimeouts;
use http_server::connection::admission::Admission;
use http_server::connection::ended::ConnectionEnds;
use http_server::connection::{ListenerConfig, listener};
use http_server::observe::HttpMetrics;
use lifecycle::{Config, Lifecycle, LifecycleMetrics, StreamKind};
use prometheus::{IntGauge, Registry};

use crate::support::{Samples, eventually};

/// Sends a message, waits for the drain, sends a last message and ends.
async fn polite(State(lifecycle): State<Lifecycle>) -> Body {
    let stream = lifecycle.stream(StreamKind::Sse, "GET /polite");
    let words = futures_util::stream::unfold((Some(stream), 0), |(stream, said)| async move {
        let open = stream?;
        if said == 0 {
            return Some((Ok::<_, Infallible>("data: hello\n\n"), (Some(open), 1)));
        }
        open.soft().cancelled().await;
        open.end();
        Some((Ok("event: end\n\n"), (None, 2)))
    });
    Body::from_stream(words)
}

/// Sends a message and never ends.
async fn deaf(State(lifecycle): State<Lifecycle>) -> Body {
    let stream = lifecycle.stream(StreamKind::Sse, "GET /deaf");
    let words = futures_util::stream::unfold((stream, false), |(stream, said)| async move {
        if said {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, Infallible>("data: hello\n\n"), (stream, true)))
    });
    Body::from_stream(words)
}

struct Rig {
    lifecycle: Lifecycle,
    registry: Registry,
    base: String,
}

impl Rig {
    fn start() -> Self {
        let registry = Registry::new();
        let lifecycle = Lifecycle::new(LifecycleMetrics::register(&registry).unwrap());
        let socket = listener::ReservedPort::new("http.addr", "127.0.0.1:0".parse().unwrap())
            .unwrap()
            .listen("public")
            .unwrap();
        let base = format!("http://{}", socket.local_addr().unwrap());
        let routes = Router::new()
            .route("/polite", get(polite))
            .route("/deaf", get(deaf))
            .with_state(lifecycle.clone());
        let serving = ListenerConfig {
            name: "public",
            tls: None,
            patience: ConnectionTimeouts {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(10),
                rate: 1,
            },
            control_frames: 1_000,
            admission: Admission::new(10, HttpMetrics::register(&registry).unwrap().shed),
            keep_alive: true,
            lifecycle: lifecycle.clone(),
            stop: lifecycle.soft(),
            kill: lifecycle.hard(),
            open: IntGauge::new("open", "open").unwrap(),
            ended: ConnectionEnds::register(&registry).unwrap(),
        };
        lifecycle.spawn("public listener", listener::serve(socket, routes, serving));
        Self {
            lifecycle,
            registry,
            base,
        }
    }

    /// Opens a stream and reads its first message.
    async fn open(&self, path: &str) -> reqwest::Response {
        let mut answer = reqwest::get(format!("{}{path}", self.base)).await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: hello\n\n");
        answer
    }

    fn streams(&self) -> f64 {
        let mut text = String::new();
        let encoder = prometheus::TextEncoder::new();
        encoder
            .encode_utf8(&self.registry.gather(), &mut text)
            .unwrap();
        let samples = Samples::parse(&text);
        assert_eq!(
            samples.get("http_streams_open", &[("kind", "websocket")]),
            Some(0.0)
        );
        samples
            .get("http_streams_open", &[("kind", "sse")])
            .unwrap()
    }

    async fn drain(&self) {
        self.lifecycle.shut_down("test");
        let config = Config {
            drain_delay: Duration::ZERO,
            grace_period: Duration::from_millis(500),
        };
        self.lifecycle.run_shutdown(&config).await;
    }
}

#[tokio::test]
async fn a_gracefully_ended_stream_is_counted_and_not_cut() {
    let rig = Rig::start();
    assert_eq!(rig.streams(), 0.0, "born at zero");
    let stream = rig.open("/polite").await;
    assert_eq!(rig.streams(), 1.0);
    let (rest, ()) = tokio::join!(stream.text(), rig.drain());
    assert_eq!(rest.unwrap(), "event: end\n\n");
    assert_eq!((rig.lifecycle.cuts(), rig.streams()), (0, 0.0));
}

#[tokio::test]
async fn a_stream_that_ignores_the_drain_is_cut_after_the_grace_period() {
    let rig = Rig::start();
    let stream = rig.open("/deaf").await;
    let (rest, ()) = tokio::join!(stream.text(), rig.drain());
    assert!(rest.is_err(), "the connection was cut");
    assert_eq!((rig.lifecycle.cuts(), rig.streams()), (1, 0.0));
}

#[tokio::test]
async fn a_stream_that_its_client_closes_is_not_cut() {
    let rig = Rig::start();
    drop(rig.open("/deaf").await);
    eventually("the stream has ended", async || {
        (rig.streams() == 0.0).then_some(())
    })
    .await;
    rig.drain().await;
    assert_eq!(rig.lifecycle.cuts(), 0);
}
