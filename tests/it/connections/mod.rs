//! Deadlines and limits of connections.
//!
//! Known limit: an unfinished header that arrives together with a complete request is limited by
//! the idle timeout, because the state of hyper's parser is not visible.

mod floods;
mod http2;
mod memory;
mod tls;
mod unread_responses;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::http2::{PREFACE, SETTINGS, get};
use crate::support::raw_http::read_bytes;
use crate::support::{Backend, Service, eventually};

const REQUEST: &[u8] = b"GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n";

async fn service() -> Service {
    Service::builder(Backend::Sqlite)
        .env("APP__HTTP__HEADER_TIMEOUT", "300ms")
        .env("APP__HTTP__IDLE_TIMEOUT", "1500ms")
        .env("APP__HTTP__BODY_TIMEOUT", "400ms")
        .start()
        .await
}

/// Sends bytes and returns how long the connection stays open afterwards.
async fn stays_open(service: &Service, bytes: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let began = Instant::now();
    read_bytes(&mut stream).await;
    began.elapsed()
}

#[tokio::test]
async fn the_header_timeout_ends_silent_connections_and_partial_headers() {
    let service = service().await;
    let half_block = [PREFACE, SETTINGS, &[0, 0, 100, 1, 4, 0, 0, 0, 1, 0x82]].concat();
    for (what, bytes) in [
        ("nothing", &b""[..]),
        (
            "half an HTTP/1.1 header",
            b"GET /api/v1/ping HTTP/1.1\r\nHost: x\r\nX-Half",
        ),
        ("half the preface of HTTP/2", &PREFACE[..10]),
        ("half an HTTP/2 header block", &half_block),
    ] {
        let open = stays_open(&service, bytes).await;
        let range = Duration::from_millis(250)..Duration::from_millis(1_200);
        assert!(range.contains(&open), "{what}: {open:?}");
    }
}

#[tokio::test]
async fn the_header_timeout_applies_to_later_requests() {
    let service = service().await;
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\"pong\"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    stream.write_all(b"GET / HT").await.unwrap();
    let began = Instant::now();
    let _ended = stream.read_to_end(&mut answer).await;
    assert!(
        began.elapsed() < Duration::from_millis(1_200),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn the_idle_timeout_ends_connections_between_requests() {
    let service = service().await;
    let idle_http2 = [PREFACE, SETTINGS, &ping_over_http2()].concat();
    for (what, bytes) in [("HTTP/1.1", REQUEST), ("HTTP/2", &idle_http2)] {
        let open = stays_open(&service, bytes).await;
        let range = Duration::from_millis(1_300)..Duration::from_secs(4);
        assert!(range.contains(&open), "{what}: {open:?}");
    }
}

/// A HEADERS frame for `GET /api/v1/ping`.
fn ping_over_http2() -> Vec<u8> {
    get(1, "/api/v1/ping")
}

#[tokio::test]
async fn a_slowly_sent_header_hits_the_header_timeout() {
    let service = service().await;
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let began = Instant::now();
    let mut open = true;
    for byte in b"GET /api/v1/ping HTTP/1.1\r\nHost: example.org\r\nX-Drip: aaaaaaaaaaa" {
        // The sleep is the pace of the attack, it does not wait for anything.
        tokio::time::sleep(Duration::from_millis(50)).await;
        if stream.write_all(&[*byte]).await.is_err() {
            open = false;
            break;
        }
    }
    assert!(
        !open && began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn too_large_headers_are_answered_with_431() {
    let service = service().await;
    // The limit is 64 KiB, independent of the size of the writes.
    for (kib, expected) in [(63, 200), (65, 431), (70, 431), (100, 431), (200, 431)] {
        let large = "a".repeat(kib * 1024);
        let request = format!("GET /api/v1/ping HTTP/1.1\r\nHost: x\r\nX-Large: {large}\r\n\r\n");
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        // The response arrives before the last byte is sent, and a reset may follow.
        let _partly = stream.write_all(request.as_bytes()).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head);
        assert_eq!(head, format!("HTTP/1.1 {expected}"), "{kib} KiB");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let service = service().await;
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    // More responses than the buffers of both ends can hold.
    let burst = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let write = async {
        for _ in 0..10_000 {
            stream.write_all(&burst).await?;
        }
        std::io::Result::Ok(())
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), write).await;
    assert!(
        matches!(ended, Ok(Err(_))),
        "the connection was not closed: {ended:?}"
    );
    eventually("the connection is closed", async || {
        let open = service
            .metrics()
            .await
            .get("http_connections_open", &[("listener", "public")]);
        (open == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_early_refusal_keeps_the_connection_alive() {
    let service = service().await;
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    for _ in 0..20 {
        // The head is sent first, so that the rejection is ready before the body arrives.
        let head = b"POST /api/v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
        stream.write_all(head).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        stream.write_all(b"never").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\"errors\":[]}") {
            assert!(
                stream.read_buf(&mut answer).await.unwrap() > 0,
                "the connection was closed"
            );
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 401"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}
