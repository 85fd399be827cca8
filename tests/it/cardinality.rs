//! The number of series is independent of client input.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Backend, Service};

const PATHS: usize = 10_000;
const OTHERS: usize = 1_000;
const CONNECTIONS: usize = 8;
/// The permitted number of new series.
const BUDGET: usize = 50;

/// Sends pipelined requests over one connection and counts the responses.
async fn pipeline(address: String, requests: Vec<String>) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.split();
    let last = "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let send = async {
        for batch in requests.chunks(100) {
            write.write_all(batch.concat().as_bytes()).await.unwrap();
        }
        write.write_all(last.as_bytes()).await.unwrap();
    };
    let mut answers = Vec::new();
    let receive = async { read.read_to_end(&mut answers).await.unwrap() };
    tokio::join!(send, receive);
    let text = String::from_utf8_lossy(&answers);
    // The final request is not counted.
    text.matches("HTTP/1.1 ").count() - 1
}

async fn series(service: &Service) -> BTreeSet<String> {
    service.metrics().await.0.into_keys().collect()
}

#[tokio::test]
async fn paths_methods_hosts_and_ids_create_no_series() {
    let service = Service::builder(Backend::Sqlite)
        .env(
            "APP__TELEMETRY__LOG_FILTER",
            concat!("warn,", env!("CARGO_PKG_NAME"), "=info,request=off"),
        )
        .start()
        .await;
    let request = |method: &str, path: &str, headers: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
    };
    let before = series(&service).await;
    let mut requests = Vec::new();
    requests.extend((0..PATHS).map(|n| request("GET", &format!("/scan/{n:x}.php?n={n}"), "")));
    requests.extend((0..OTHERS).map(|n| request(&format!("M{n}"), "/api/v1/ping", "")));
    requests.extend(
        (0..OTHERS).map(|n| format!("GET /api/v1/ping HTTP/1.1\r\nhost: h{n}.example\r\n\r\n")),
    );
    requests.extend((0..OTHERS).map(|n| {
        let id = format!("/api/v1/accounts/01a1fb90-0000-7000-8000-{n:012x}");
        request("GET", &id, &format!("x-request-id: r{n}\r\n"))
    }));
    requests.extend((0..OTHERS).map(|n| {
        let headers = format!(
            "user-agent: a{n}\r\nauthorization: Bearer t{n}\r\nx-api-key: k{n}\r\n\
             x-forwarded-for: 10.0.{}.{}\r\ntraceparent: 00-{:032x}-{:016x}-01\r\n",
            n / 256,
            n % 256,
            n + 1,
            n + 1
        );
        request("GET", "/api/v1/users/me", &headers)
    }));
    let sent = requests.len();
    let share = sent.div_ceil(CONNECTIONS);
    let connections = requests.chunks(share).map(|part| {
        let (address, part) = (service.address().to_owned(), part.to_vec());
        tokio::spawn(pipeline(address, part))
    });
    let connections: Vec<_> = connections.collect();
    let mut answered = 0;
    for connection in connections {
        answered += connection.await.unwrap();
    }
    assert_eq!(answered, sent);
    let samples = service.metrics().await;
    let recorded = samples.sum("http_requests_total", &[]);
    // One final request for each connection.
    let expected = u32::try_from(sent + CONNECTIONS).unwrap();
    assert_eq!(recorded, f64::from(expected));
    let after = series(&service).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(!new.is_empty(), "unmatched paths have a series");
    assert!(new.len() < BUDGET, "{} new series: {new:#?}", new.len());
}

/// Histograms have one series for each bucket, so requests without a handler must not create any.
#[tokio::test]
async fn refused_methods_create_no_histograms() {
    const METHODS: [&str; 10] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "BREW",
    ];
    const UNMATCHED: [&str; 2] = ["/nothing", "/wp-login.php"];
    let service = Service::start(Backend::Sqlite).await;
    let document = service.client.get(service.url("/openapi.json")).send();
    let document: serde_json::Value = document.await.unwrap().json().await.unwrap();
    let documented = document["paths"].as_object().unwrap().keys();
    let paths: Vec<_> = documented.map(String::as_str).chain(UNMATCHED).collect();
    let (before, counted) = (series(&service).await, service.metrics().await);
    let mut served = 0;
    for path in &paths {
        let path = path.replace("{id}", "01a1fb90-0000-7000-8000-000000000000");
        for method in METHODS {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            let mut stream = TcpStream::connect(service.address()).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let status: u16 = answer[9..12].parse().unwrap();
            // A `HEAD` request that a handler answers may be timed.
            served += usize::from(method == "HEAD" && status == 200);
        }
    }
    let after = series(&service).await;
    let new = after.difference(&before);
    let (totals, others): (Vec<_>, Vec<_>) =
        new.partition(|series| series.starts_with("http_requests_total{"));
    assert!(
        totals.len() > paths.len(),
        "refusals are counted: {totals:#?}"
    );
    assert!(totals.len() <= paths.len() * METHODS.len());
    let unserved = others
        .iter()
        .filter(|series| !series.contains("method=\"HEAD\""));
    assert_eq!(unserved.count(), 0, "{others:#?}");
    let heads = others.iter().filter(|series| series.contains("_count{"));
    assert_eq!(heads.count(), served);
    // Every method is timed on some route.
    let samples = service.metrics().await;
    let growth = |name| samples.sum(name, &[]) - counted.sum(name, &[]);
    assert_eq!(
        growth("http_requests_total"),
        growth("http_request_duration_seconds_count")
    );
}

/// The first run of a worker and rare requests create no series.
#[tokio::test]
async fn all_store_series_exist_from_the_start() {
    let service = Service::start(Backend::Sqlite).await;
    let metrics = service.metrics().await;
    for query_type in ["change_password", "transfer"] {
        let count = metrics.get(
            "db_query_duration_seconds_count",
            &[("query_type", query_type)],
        );
        assert_eq!(count, Some(0.0), "{query_type}");
    }
}
