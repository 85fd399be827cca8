//! Log lines: one JSON object each, with consistent ids and documented fields.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{get, request_line};
use crate::support::{Backend, Service};

#[tokio::test]
async fn every_line_is_json_and_every_request_is_logged() {
    let mut service = Service::start(Backend::Sqlite).await;
    let mut ids = Vec::new();
    for path in ["/api/v1/ping", "/nothing", "/api/v1/ping?secret=canary"] {
        ids.push(get(&service, path, &[]).await.request_id().to_owned());
    }
    // The HTTP parser accepts characters that RFC 3986 does not allow.
    let odd = "/odd/%0a%1b[2J\u{7f}\"\\";
    let raw = raw_get(&service, odd).await;
    assert!(raw.starts_with("HTTP/1.1 4"), "{raw}");
    assert_eq!(service.terminate().await, Some(0));
    for line in service.stdout() {
        let parsed: Value = serde_json::from_str(&line).expect(&line);
        for name in ["timestamp", "level", "message", "target"] {
            assert!(parsed[name].is_string(), "{name} in {line}");
        }
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains("canary"), "{line}");
    }
    for id in ids {
        let lines = service.logs();
        let of_request = lines
            .iter()
            .filter(|line| line["target"] == "request" && line["request_id"] == id.as_str());
        assert_eq!(of_request.count(), 1);
    }
}

/// The head of the response to a request that client libraries cannot send.
async fn raw_get(service: &Service, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_request_line_has_exactly_the_documented_fields() {
    let service = Service::start(Backend::Sqlite).await;
    let answer = get(&service, "/nothing", &[]).await;
    let line = request_line(&service, answer.request_id()).await;
    let always = [
        "timestamp",
        "level",
        "message",
        "target",
        "trace_id",
        "span_id",
        "request_id",
    ];
    let documented = telemetry::logs::REQUEST_LINE;
    for name in line.as_object().unwrap().keys() {
        let known =
            always.contains(&name.as_str()) || documented.iter().any(|(field, _)| field == name);
        assert!(known, "{name} is not documented");
    }
    // Only authenticated requests have a principal, and only some of them an API key.
    let of_principal = ["principal", "api_key"];
    for (name, _) in documented
        .iter()
        .filter(|(name, _)| !of_principal.contains(name))
    {
        assert!(!line[name].is_null(), "{name} is missing in {line}");
    }
    assert_eq!(line["message"], "request");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["route"], "unmatched");
    assert_eq!(line["status"], 404);
    assert_eq!(line["code"], "NOT_FOUND");
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(line["client_address"], "127.0.0.1");
}

#[test]
fn the_documented_request_line_matches_the_code() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logging.md"));
    let page = page.expect("docs/logging.md");
    let mut table = String::new();
    for (name, meaning) in telemetry::logs::REQUEST_LINE {
        writeln!(table, "| `{name}` | {meaning} |").unwrap();
    }
    assert!(
        page.contains(&table),
        "docs/logging.md should have this table:\n{table}"
    );
    let example = page
        .lines()
        .find(|line| line.starts_with("{\"timestamp\"") && line.contains("\"target\":\"request\""))
        .expect("an example of the request line");
    let example: Value = serde_json::from_str(example).expect("the example is JSON");
    for (name, _) in telemetry::logs::REQUEST_LINE {
        let optional = ["api_key", "code"].contains(name);
        assert!(
            optional || !example[name].is_null(),
            "{name} in the example"
        );
    }
}

#[tokio::test]
async fn lines_are_counted_by_level() {
    let service = Service::start(Backend::Sqlite).await;
    let before = service.metrics().await;
    for level in ["error", "debug", "trace"] {
        let count = before.get("log_lines_total", &[("level", level)]);
        assert_eq!(count, Some(0.0), "{level}");
    }
    assert_eq!(before.get("log_lines_dropped_total", &[]), Some(0.0));
    let answer = get(&service, "/api/v1/ping", &[]).await;
    request_line(&service, answer.request_id()).await;
    let after = service.metrics().await;
    let info = |samples: &crate::support::Samples| {
        samples
            .get("log_lines_total", &[("level", "info")])
            .unwrap()
    };
    assert!(info(&after) > info(&before));
}

#[tokio::test]
async fn the_configured_filter_applies_to_request_lines() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("RUST_LOG", "info,request=off")
        .start()
        .await;
    get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    let lines = service.logs();
    assert!(lines.iter().any(|line| line["message"] == "listening"));
    assert!(!lines.iter().any(|line| line["target"] == "request"));
}

#[tokio::test]
async fn error_events_beyond_the_limit_are_counted() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__TELEMETRY__ERROR_EVENTS_PER_SECOND", "0")
        .start()
        .await;
    let fault = json!({ "path": "/api/v1/ping", "status": 500 });
    let put = service.client.put(service.admin("/faults")).json(&fault);
    assert_eq!(put.send().await.unwrap().status(), 200);
    for _ in 0..3 {
        assert_eq!(get(&service, "/api/v1/ping", &[]).await.status, 500);
    }
    let metrics = service.metrics().await;
    let suppressed = metrics.get("error_events_suppressed_total", &[]);
    assert_eq!(suppressed, Some(3.0));
    assert_eq!(service.terminate().await, Some(0));
    let lines = service.logs();
    assert!(!lines.iter().any(|line| line["message"] == "request failed"));
    let failed = |line: &&Value| line["target"] == "request" && line["status"] == 500;
    assert_eq!(lines.iter().filter(failed).count(), 3);
}

#[tokio::test]
async fn a_failed_start_writes_its_last_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__ADDR", address)
        .spawn()
        .await;
    assert_eq!(service.wait().await.code(), Some(1));
    let last = service.stderr().pop().expect("a last line");
    let last: Value = serde_json::from_str(&last).expect("an object");
    assert_eq!(last["level"], "error", "{last}");
}

#[tokio::test]
async fn a_second_signal_is_logged() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__DRAIN_DELAY", "1h")
        .start()
        .await;
    service.signal("TERM");
    crate::support::eventually("the drain", async || {
        service
            .logs()
            .iter()
            .any(|line| line["message"] == "shutting down")
            .then_some(())
    })
    .await;
    service.signal("TERM");
    assert_eq!(service.wait().await.code(), Some(70));
    let lines = service.logs();
    let last = lines.last().unwrap();
    assert_eq!(
        last["message"], "second signal, exiting immediately",
        "{last}"
    );
}

#[tokio::test]
async fn pretty_lines_are_plain_text_away_from_a_terminal() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__TELEMETRY__LOG_FORMAT", "pretty")
        .spawn()
        .await;
    crate::support::eventually("a pretty line", async || {
        service
            .stdout()
            .iter()
            .any(|line| line.contains(" INFO  lifecycle state=ready"))
            .then_some(())
    })
    .await;
    assert_eq!(service.terminate().await, Some(0));
    assert!(!service.stdout().join("").contains('\u{1b}'));
}
