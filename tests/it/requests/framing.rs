//! Requests with ambiguous framing (RFC 9112, sections 6 and 7) are rejected, and the bytes behind
//! them are not interpreted.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::raw_http::{exchange, read_head, read_to_end, statuses};
use crate::support::{Backend, Service};

const HIDDEN: &str = "GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n";
const LOGIN: &str =
    "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// Asserts a rejection with a problem that closes the connection. The hidden request is not
/// answered.
fn assert_refused(answer: &str, status: u16, code: &str, what: &str) {
    assert_eq!(statuses(answer), [status], "{what}: {answer}");
    let code = format!("\"code\":\"{code}\"");
    assert!(answer.contains(&code), "{what}: {answer}");
    assert!(answer.contains("connection: close"), "{what}: {answer}");
    assert!(!answer.contains("pong"), "{what}: {answer}");
}

#[tokio::test]
async fn unknown_transfer_codings_are_501_and_malformed_ones_400() {
    let service = Service::start(Backend::Sqlite).await;
    for (coding, status, code) in [
        ("gzip, chunked", 501, "TRANSFER_CODING_UNKNOWN"),
        (
            "gzip\r\nTransfer-Encoding: chunked",
            501,
            "TRANSFER_CODING_UNKNOWN",
        ),
        ("identity, chunked", 501, "TRANSFER_CODING_UNKNOWN"),
        ("chunked, chunked", 400, "INVALID_HEADER"),
        (
            "chunked\r\nTransfer-Encoding: chunked",
            400,
            "INVALID_HEADER",
        ),
        (", chunked", 400, "INVALID_HEADER"),
    ] {
        for start in [
            LOGIN,
            "GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n",
            "GET /health/live HTTP/1.1\r\nHost: x\r\n",
        ] {
            let bytes = format!("{start}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n{HIDDEN}");
            let answer = exchange(&service, bytes.as_bytes()).await;
            assert_refused(&answer, status, code, &format!("{start}{coding}"));
        }
    }
    let refused = [("path", "/api/v1/ping"), ("status", "501")];
    let metrics = service.metrics().await;
    assert_eq!(metrics.get("http_requests_total", &refused), Some(3.0));
    // The names of codings are case-insensitive.
    let chunked = format!("{LOGIN}Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n{HIDDEN}");
    let bytes = chunked.replace(HIDDEN, &HIDDEN.replace("Host", "Connection: close\r\nHost"));
    let answer = exchange(&service, bytes.as_bytes()).await;
    assert_eq!(statuses(&answer), [400, 200], "{answer}");
}

#[tokio::test]
async fn content_length_with_chunked_coding_is_400() {
    let service = Service::start(Backend::Sqlite).await;
    let body = "{\"email\":\"a@example.org\",\"password\":\"not a good one\"}";
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = format!("\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for framing in [
        format!("{length}Transfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
        "transfer-encoding:chunked\ncontent-length:0\n".to_owned(),
    ] {
        for start in [
            LOGIN,
            "GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n",
            "GET /health/ready HTTP/1.1\r\nHost: x\r\n",
            "GET /nowhere HTTP/1.1\r\nHost: x\r\n",
        ] {
            let bytes = format!("{start}{framing}{chunks}{HIDDEN}");
            let answer = exchange(&service, bytes.as_bytes()).await;
            assert_refused(&answer, 400, "INVALID_HEADER", &format!("{start}{framing}"));
        }
    }
}

#[tokio::test]
async fn malformed_chunks_and_trailers_are_400() {
    let service = Service::start(Backend::Sqlite).await;
    for body in [
        "2\r\n{}\r\n0\r\nx: y\n\r\n",
        "2\r\n{}\r\n0\r\n\n",
        "2\r\n{}\r\n0\r\n x: y\r\n\r\n",
        "2\r\n{}\r\n0\r\nno colon\r\n\r\n",
        "2\r\n{}\r\n0\r\nx: a\rb\r\n\r\n",
        "2\r\n{}\r\n0\r\nContent-Length: 3\r\n\r\n",
        "2\r\n{}!\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
    ] {
        let head = format!("{LOGIN}Transfer-Encoding: chunked\r\n");
        let bytes = format!("{head}\r\n{body}{HIDDEN}");
        let answer = exchange(&service, bytes.as_bytes()).await;
        assert_refused(&answer, 400, "INVALID_BODY", body);

        // By now the handler waits for the body.
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        let asking = format!("{head}Expect: 100-continue\r\n\r\n");
        stream.write_all(asking.as_bytes()).await.unwrap();
        assert_eq!(statuses(&read_head(&mut stream).await), [100]);
        let bytes = format!("{body}{HIDDEN}");
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_refused(&answer, 400, "INVALID_BODY", body);
    }
}

#[tokio::test]
async fn bytes_after_a_valid_chunked_body_are_the_next_request() {
    let service = Service::start(Backend::Sqlite).await;
    let last = HIDDEN.replace("Host", "Connection: close\r\nHost");
    let bytes = format!(
        "{LOGIN}Transfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\n{{\r\n01  \r\n}}\r\n0\r\nX-Sum: 1\r\n\r\n{HIDDEN}{last}"
    );
    // In one write, and byte by byte.
    let answer = exchange(&service, bytes.as_bytes()).await;
    assert_eq!(statuses(&answer), [422, 200, 200], "{answer}");
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in bytes.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
    }
    let answer = read_to_end(&mut stream).await;
    assert_eq!(statuses(&answer), [422, 200, 200], "{answer}");
}

#[tokio::test]
async fn the_admin_listener_refuses_ambiguous_framing() {
    let service = Service::start(Backend::Sqlite).await;
    let admin = service.admin("");
    let address = admin.trim_start_matches("http://").trim_end_matches('/');
    for (framing, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
        let hidden = "GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let bytes = format!("{head}0\r\n\r\n{hidden}");
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(statuses(&answer), [status], "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
