//! Requests whose heads are invalid, too large or ambiguous.

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::raw_http::{exchange, read_head, read_to_end, statuses};
use crate::support::{Backend, Service};

const CLOSE: &str = "Host: x\r\nConnection: close\r\n";

async fn status(service: &Service, request: &str) -> u16 {
    let answer = exchange(service, request.as_bytes()).await;
    let all = statuses(&answer);
    assert_eq!(all.len(), 1, "{request:?}: {answer}");
    all[0]
}

#[tokio::test]
async fn invalid_heads_are_refused_with_the_matching_status() {
    let service = Service::start(Backend::Sqlite).await;
    let ping = "/api/v1/ping";
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    let long_path = format!("/{}", "a".repeat(9_000));
    let many_headers = format!("{CLOSE}{}", "x: y\r\n".repeat(200));
    let twice = format!("{CLOSE}Host: y\r\n");
    for (what, expected, request) in [
        ("an ordinary one", 200, get(ping, CLOSE)),
        (
            "the absolute form",
            200,
            get("http://example.org/api/v1/ping", CLOSE),
        ),
        (
            "HTTP/1.0 without Host",
            200,
            format!("GET {ping} HTTP/1.0\r\n\r\n"),
        ),
        ("no Host", 400, get(ping, "Connection: close\r\n")),
        ("two Hosts", 400, get(ping, &twice)),
        (
            "a Host that is none",
            400,
            get(ping, "Host: a b\r\nConnection: close\r\n"),
        ),
        (
            "a Host with a user",
            400,
            get(ping, "Host: u@x\r\nConnection: close\r\n"),
        ),
        ("a long target", 414, get(&long_path, CLOSE)),
        ("many headers", 431, get(ping, &many_headers)),
        (
            "CONNECT",
            405,
            format!("CONNECT example.org:443 HTTP/1.1\r\n{CLOSE}\r\n"),
        ),
        (
            "TRACE",
            405,
            format!("TRACE {ping} HTTP/1.1\r\n{CLOSE}\r\n"),
        ),
        (
            "a method of its own",
            405,
            format!("BREW {ping} HTTP/1.1\r\n{CLOSE}\r\n"),
        ),
        ("no HTTP", 400, "hello\r\n\r\n".to_owned()),
        (
            "a space in a header's name",
            400,
            get(ping, "Host: x\r\nBad name: y\r\n"),
        ),
        (
            "a folded header",
            400,
            get(ping, "Host: x\r\nA: b\r\n c\r\n"),
        ),
    ] {
        assert_eq!(status(&service, &request).await, expected, "{what}");
    }
}

#[tokio::test]
async fn requests_with_two_lengths_are_refused() {
    let service = Service::start(Backend::Sqlite).await;
    let login = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let hidden = "GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n";
    for (what, framing) in [
        (
            "two lengths",
            "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        ),
        ("a list of lengths", "Content-Length: 2, 3\r\n\r\n{}"),
        ("a signed length", "Content-Length: +2\r\n\r\n{}"),
        (
            "an unknown coding",
            "Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
        ),
        (
            "length, then chunks",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunks, then length",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        ),
    ] {
        let answer = exchange(&service, format!("{login}{framing}{hidden}").as_bytes()).await;
        assert_eq!(statuses(&answer), [400], "{what}: {answer}");
        assert!(!answer.contains("pong"), "{what}: {answer}");
    }
}

#[tokio::test]
async fn options_lists_the_methods_and_asterisk_is_not_a_path() {
    let service = Service::start(Backend::Sqlite).await;
    let answer = exchange(
        &service,
        format!("OPTIONS /api/v1/accounts HTTP/1.1\r\n{CLOSE}\r\n").as_bytes(),
    )
    .await;
    assert_eq!(statuses(&answer), [204], "{answer}");
    let allow = answer.lines().find(|line| line.starts_with("allow:"));
    let allow = allow.unwrap_or_default();
    assert!(allow.contains("GET") && allow.contains("POST"), "{answer}");
    let asterisk = format!("OPTIONS * HTTP/1.1\r\n{CLOSE}\r\n");
    assert_eq!(status(&service, &asterisk).await, 404);
}

#[tokio::test]
async fn an_accept_without_json_is_refused_before_the_handler() {
    let service = Service::start(Backend::Sqlite).await;
    let ask = async |accept: &str| {
        let request = service.client.get(service.url("/api/v1/ping"));
        request.header("accept", accept).send().await.unwrap()
    };
    let answer = ask("text/html, image/*").await;
    assert_eq!(answer.status(), 406);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["code"], "NOT_ACCEPTABLE");
    for accept in [
        "text/html, */*;q=0.1",
        "application/json",
        "text/event-stream",
    ] {
        assert_eq!(ask(accept).await.status(), 200, "{accept}");
    }
    let page = service.client.get(service.url("/docs/"));
    let page = page.header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status(), 200);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_BODY_BYTES", "1KiB")
        .start()
        .await;
    let head = |length: usize| {
        format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(head(2).as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_head(&mut stream).await), [100]);
    stream.write_all(b"{}").await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await), [422]);

    let answer = exchange(&service, head(1_025).as_bytes()).await;
    assert_eq!(statuses(&answer), [413], "{answer}");
}
