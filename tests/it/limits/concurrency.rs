//! Limits of concurrent requests, of arriving bodies, and of the share of one client.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{ping, ping_status};
use crate::support::raw_http::read_to_end;
use crate::support::{Backend, Builder, Service, eventually};

/// A body that is rejected after it has been read: it lacks address and password.
const BODY: &str = "{}";

/// A service with few permits, behind a trusted proxy on loopback.
fn service(permits: &[(&str, &str)]) -> Builder {
    let builder =
        Service::builder(Backend::Sqlite).env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
    permits.iter().fold(builder, |builder, (key, value)| {
        builder.env(&format!("APP__HTTP__{key}"), *value)
    })
}

/// Starts a request of the client at `address` without sending its body.
async fn start_request(service: &Service, address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads the complete response and returns its status and `detail`.
async fn answer(mut stream: TcpStream) -> (u16, String) {
    let text = read_to_end(&mut stream).await;
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
    (status.unwrap_or_default(), detail)
}

/// Sends the body and returns the status of the response.
async fn finish_request(mut stream: TcpStream) -> u16 {
    stream.write_all(BODY.as_bytes()).await.unwrap();
    answer(stream).await.0
}

async fn wait_for_arriving(service: &Service, bodies: u32) {
    eventually(&format!("{bodies} bodies are awaited"), async || {
        let metrics = service.metrics().await;
        let now = metrics.get("http_request_bodies_arriving", &[]);
        (now == Some(f64::from(bodies))).then_some(())
    })
    .await;
}

async fn shed_count(service: &Service, reason: &str) -> f64 {
    let metrics = service.metrics().await;
    metrics
        .get("http_shed_total", &[("reason", reason)])
        .expect("it is there from the start")
}

/// Makes every ping slower than the test.
async fn slow_pings(service: &Service) {
    let fault = json!({"path": "/api/v1/ping", "latency": "10s"});
    let put = service.client.put(service.admin("/faults")).json(&fault);
    assert_eq!(put.send().await.unwrap().status(), 200);
}

/// Sends `count` slow pings of the client at `address`, each on its own connection.
async fn send_pings(service: &Service, address: &str, count: u32) -> Vec<JoinHandle<()>> {
    let before = in_flight(service).await;
    let asked = (0..count).map(|_| {
        let request = service.client.get(service.url("/api/v1/ping"));
        let request = request.header("x-forwarded-for", address).send();
        tokio::spawn(async move {
            let _never_awaited_to_its_end = request.await;
        })
    });
    let asked = asked.collect();
    eventually("they are in work", async || {
        (in_flight(service).await == before + f64::from(count)).then_some(())
    })
    .await;
    asked
}

async fn in_flight(service: &Service) -> f64 {
    let metrics = service.metrics().await;
    metrics.get("http_requests_in_flight", &[]).unwrap()
}

#[tokio::test]
async fn slowly_arriving_bodies_do_not_occupy_places() {
    let service = service(&[("MAX_IN_FLIGHT", "2")]).start().await;
    let mut slow = Vec::new();
    for client in 0..40 {
        let address = format!("192.0.2.{}", 1 + client % 2);
        slow.push(start_request(&service, &address).await);
    }
    wait_for_arriving(&service, 40).await;
    for _ in 0..20 {
        assert_eq!(ping_status(&service, "198.51.100.1").await, 200);
        assert_eq!(ping_status(&service, "192.0.2.1").await, 200);
    }
    // Each request gets its permit back when its body has arrived.
    for stream in slow {
        assert_eq!(finish_request(stream).await, 422);
    }
    wait_for_arriving(&service, 0).await;
    assert_eq!(in_flight(&service).await, 0.0);
    assert_eq!(shed_count(&service, "in_flight").await, 0.0);
}

#[tokio::test]
async fn slow_bodies_of_one_http2_connection_are_counted_individually() {
    // No body reaches its time limit during the test.
    let limits = [
        ("MAX_IN_FLIGHT", "2"),
        ("MAX_BODIES_PER_CLIENT", "30"),
        ("BODY_TIMEOUT", "5m"),
        ("REQUEST_TIMEOUT", "5m"),
    ];
    let service = service(&limits).start().await;
    let stream = TcpStream::connect(service.address()).await.unwrap();
    let stream = stream.into_std().unwrap();
    let socket = stream.try_clone().unwrap();
    let io = TokioIo::new(TcpStream::from_std(stream).unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let send = || {
        let first = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"{")));
        let body = StreamBody::new(stream::iter([first]).chain(stream::pending()));
        let request = http::Request::post(service.url("/api/v1/auth/login"))
            .header("content-type", "application/json")
            .header("x-forwarded-for", "192.0.2.1");
        let request = request.body(body).unwrap();
        let mut sender = sender.clone();
        tokio::spawn(async move {
            sender
                .send_request(request)
                .await
                .map(|answer| answer.status())
        })
    };
    let mut held = Vec::new();
    for count in 1..=30 {
        // One after the other, because each holds a permit until it waits for its body.
        held.push(send());
        wait_for_arriving(&service, count).await;
    }
    assert_eq!(send().await.unwrap().unwrap(), 503);
    assert_eq!(shed_count(&service, "client_bodies").await, 1.0);
    assert_eq!(ping_status(&service, "192.0.2.1").await, 200);
    // The permits of the lost connection are free again.
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    wait_for_arriving(&service, 0).await;
    for request in held {
        assert!(request.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn arriving_bodies_are_limited_in_total_and_by_client() {
    let limits = [("MAX_BODIES", "3"), ("MAX_BODIES_PER_CLIENT", "2")];
    let service = service(&limits).start().await;
    let held = [
        start_request(&service, "2001:db8:0:1::1").await,
        start_request(&service, "2001:db8:0:1::2").await,
    ];
    wait_for_arriving(&service, 2).await;
    let (status, detail) = answer(start_request(&service, "2001:db8:0:1:2::1").await).await;
    assert_eq!(
        (status, &*detail),
        (503, "Too many request bodies of this client are awaited.")
    );
    let other = start_request(&service, "192.0.2.1").await;
    wait_for_arriving(&service, 3).await;
    let (status, detail) = answer(start_request(&service, "192.0.2.2").await).await;
    assert_eq!(
        (status, &*detail),
        (503, "Too many request bodies are awaited.")
    );
    assert_eq!(shed_count(&service, "client_bodies").await, 1.0);
    assert_eq!(shed_count(&service, "bodies").await, 1.0);
    // A body that arrives with its head needs no permit for bodies.
    let login = service.client.post(service.url("/api/v1/auth/login"));
    let login = login.header("content-type", "application/json").body(BODY);
    assert_eq!(login.send().await.unwrap().status(), 422);
    for stream in held.into_iter().chain([other]) {
        assert_eq!(finish_request(stream).await, 422);
    }
}

#[tokio::test]
async fn excess_requests_are_shed_immediately() {
    let service = service(&[("MAX_IN_FLIGHT", "2")]).start().await;
    let late = start_request(&service, "192.0.2.1").await;
    wait_for_arriving(&service, 1).await;
    slow_pings(&service).await;
    let _working = send_pings(&service, "192.0.2.1", 2).await;
    let refused = ping(&service, "192.0.2.2").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["code"], "OVERLOADED");
    // A body that has arrived is subject to the same limit.
    assert_eq!(finish_request(late).await, 503);
    assert_eq!(shed_count(&service, "in_flight").await, 2.0);
    // Probes are still answered.
    let probe = service.client.get(service.url("/health/ready")).send();
    assert_eq!(probe.await.unwrap().status(), 200);
}

#[tokio::test]
async fn one_client_cannot_occupy_all_places() {
    let limits = [("MAX_IN_FLIGHT", "8"), ("MAX_IN_FLIGHT_PER_CLIENT", "2")];
    let service = service(&limits).start().await;
    slow_pings(&service).await;
    // One client gets half of the permits, and a share of the other half.
    let _first = send_pings(&service, "192.0.2.1", 4 + 2).await;
    let refused = ping(&service, "192.0.2.1").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(shed_count(&service, "client_in_flight").await, 1.0);
    let _second = send_pings(&service, "192.0.2.2", 2).await;
    assert_eq!(ping_status(&service, "192.0.2.3").await, 503);
    assert_eq!(shed_count(&service, "in_flight").await, 1.0);
}
