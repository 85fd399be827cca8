//! The drain: served, redirected and cut requests, and the log.

use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::support::{Backend, Service, eventually};
use crate::telemetry::{exporting, sink::Sink};

type Http2 = hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>>;

async fn http2(service: &Service) -> (Http2, tokio::task::JoinHandle<bool>) {
    let stream = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    (
        sender,
        tokio::spawn(async move { connection.await.is_ok() }),
    )
}

async fn ping(service: &Service, sender: &mut Http2) -> hyper::Result<u16> {
    let request = http::Request::get(service.url("/api/v1/ping"));
    let request = request.body(Empty::new()).unwrap();
    Ok(sender.send_request(request).await?.status().as_u16())
}

/// Makes every ping take this long.
pub(super) async fn slow_pings(service: &Service, latency: &str) {
    let fault = json!({ "path": "/api/v1/ping", "latency": latency });
    let put = service.client.put(service.admin("/faults")).json(&fault);
    assert_eq!(put.send().await.unwrap().status(), 200);
}

pub(super) async fn in_flight(service: &Service, wanted: f64) {
    eventually("requests are in flight", async || {
        let now = service.metrics().await.get("http_requests_in_flight", &[]);
        (now == Some(wanted)).then_some(())
    })
    .await;
}

pub(super) fn lines<'a>(logs: &'a [Value], message: &str) -> Vec<&'a Value> {
    logs.iter()
        .filter(|line| line["message"] == message)
        .collect()
}

#[tokio::test]
async fn http2_clients_receive_goaway_while_new_connections_are_served() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__DRAIN_DELAY", "1m")
        .start()
        .await;
    let (mut sender, connection) = http2(&service).await;
    assert_eq!(ping(&service, &mut sender).await.unwrap(), 200);
    service.signal("TERM");
    let began = Instant::now();
    assert!(connection.await.unwrap(), "GOAWAY without an error");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "at the drain's start"
    );
    assert!(ping(&service, &mut sender).await.is_err());

    let (mut sender, connection) = http2(&service).await;
    assert_eq!(
        ping(&service, &mut sender).await.unwrap(),
        200,
        "a new one is served once"
    );
    assert!(connection.await.unwrap());
    let answer = service
        .client
        .get(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close");
    // The delay is longer than the test.
    service.signal("TERM");
    assert_eq!(service.wait().await.code(), Some(70));
}

#[tokio::test]
async fn readiness_falls_within_a_second() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__DRAIN_DELAY", "2s")
        .start()
        .await;
    service.signal("TERM");
    let began = Instant::now();
    eventually("readiness falls", async || {
        let answer = service
            .client
            .get(service.url("/health/ready"))
            .send()
            .await
            .ok()?;
        let status = answer.status();
        let body: Value = answer.json().await.ok()?;
        (status == 503).then(|| assert_eq!(body, json!({ "status": "unavailable" })))
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(service.wait().await.code(), Some(0));
}

#[tokio::test]
async fn scrapes_are_answered_while_the_last_requests_finish() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .start()
        .await;
    slow_pings(&service, "3s").await;
    let asked = tokio::spawn(service.client.get(service.url("/api/v1/ping")).send());
    in_flight(&service, 1.0).await;
    service.signal("TERM");
    eventually("the public listener is gone", async || {
        let connected = tokio::net::TcpStream::connect(service.address()).await;
        connected.is_err().then_some(())
    })
    .await;
    let metrics = service.metrics().await;
    let state = |state| metrics.get("lifecycle_state", &[("state", state)]);
    assert_eq!((state("stopping"), state("ready")), (Some(1.0), Some(0.0)));
    assert_eq!(metrics.get("http_requests_in_flight", &[]), Some(1.0));
    let live = service.client.get(service.admin("/health/live")).send();
    assert_eq!(live.await.unwrap().status(), 200, "a drain is no death");
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    assert_eq!(service.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_in_flight_finishes_and_each_step_is_logged() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("RUST_LOG", "info,lifecycle=debug")
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .start()
        .await;
    slow_pings(&service, "800ms").await;
    let asked = tokio::spawn(service.client.get(service.url("/api/v1/ping")).send());
    in_flight(&service, 1.0).await;
    service.signal("TERM");
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    assert_eq!(service.wait().await.code(), Some(0));
    let logs = service.logs();
    let steps: Vec<_> = lines(&logs, "shutdown step");
    let names: Vec<_> = steps
        .iter()
        .map(|line| line["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "drain delay",
            "finish",
            "database",
            "telemetry",
            "admin listener"
        ]
    );
    let finish = steps[1];
    assert!(
        finish["waited_for"]
            .as_str()
            .unwrap()
            .starts_with("public listener "),
        "{finish}"
    );
    assert!(finish["waited_ms"].as_u64().unwrap() < 10_000, "{finish}");
}

#[tokio::test]
async fn a_request_that_outlives_the_grace_period_is_cut_by_name() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "300ms")
        .env("APP__HTTP__REQUEST_TIMEOUT", "1m")
        .start()
        .await;
    slow_pings(&service, "30s").await;
    let asked = tokio::spawn(service.client.get(service.url("/api/v1/ping")).send());
    in_flight(&service, 1.0).await;
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(70));
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert!(asked.await.unwrap().is_err());
    let logs = service.logs();
    let cuts = lines(&logs, "cut: it outlived the grace period");
    assert_eq!(cuts.len(), 1, "{cuts:#?}");
    assert_eq!(
        (&cuts[0]["kind"], &cuts[0]["name"]),
        (&json!("request"), &json!("GET /api/v1/ping"))
    );
    // The trace id of the cut line equals that of the request line.
    let trace = cuts[0]["trace_id"]
        .as_str()
        .expect("the ids of the request");
    let requests = lines(&logs, "request");
    assert!(
        requests.iter().any(|line| line["trace_id"] == trace),
        "{requests:#?}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_the_process_immediately() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__DRAIN_DELAY", "1m")
        .start()
        .await;
    service.signal("TERM");
    eventually("the drain began", async || {
        let metrics = service.metrics().await;
        (metrics.get("lifecycle_state", &[("state", "draining")]) == Some(1.0)).then_some(())
    })
    .await;
    let began = Instant::now();
    service.signal("INT");
    assert_eq!(service.wait().await.code(), Some(70));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn spans_of_requests_during_the_drain_are_exported() {
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("APP__LIFECYCLE__DRAIN_DELAY", "1s")
        .start()
        .await;
    let url = service.url("/api/v1/ping");
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (client, url) = (service.client.clone(), url.clone());
            // Sends requests until the connection fails, so that the last one is sent at the last
            // moment.
            tokio::spawn(async move {
                let mut answered = Vec::new();
                while let Ok(answer) = client.get(&url).send().await {
                    let id = answer.headers()["x-request-id"]
                        .to_str()
                        .unwrap()
                        .to_owned();
                    answered.push(id);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                answered
            })
        })
        .collect();
    in_flight_or_done(&service).await;
    assert_eq!(service.terminate().await, Some(0));
    let mut answered = Vec::new();
    for asking in asking {
        answered.extend(asking.await.unwrap());
    }
    assert!(answered.len() > 20, "{}", answered.len());
    let ids: std::collections::HashSet<_> = sink
        .spans()
        .iter()
        .filter(|received| received.span.name == "GET /api/v1/ping")
        .filter_map(|received| received.text("request.id"))
        .collect();
    let missing: Vec<_> = answered.iter().filter(|id| !ids.contains(*id)).collect();
    assert!(
        missing.is_empty(),
        "{} of {} spans are missing",
        missing.len(),
        answered.len()
    );
}

async fn in_flight_or_done(service: &Service) {
    eventually("requests were answered", async || {
        let labels = [("path", "/api/v1/ping"), ("status", "200")];
        let answered = service.metrics().await.get("http_requests_total", &labels);
        answered
            .is_some_and(|answered| answered >= 4.0)
            .then_some(())
    })
    .await;
}
