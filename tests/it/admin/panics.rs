//! A panicking handler, simulated by an injected fault.

use serde_json::{Value, json};

use super::{public, put};
use crate::support::{Backend, Service, eventually};

const PING: &str = "/api/v1/ping";

#[tokio::test]
async fn a_panic_is_answered_counted_and_logged() {
    let mut service = Service::start(Backend::Sqlite).await;
    let before = service.metrics().await;
    assert_eq!(before.get("panics_total", &[]), Some(0.0));
    put(&service, "/faults", &json!({ "path": PING, "panic": true })).await;
    let answer = service.client.get(service.url(PING)).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "INTERNAL");
    assert!(
        !problem.to_string().contains("injected"),
        "a cause is inside"
    );
    let id = problem["request_id"].as_str().unwrap();
    let of_request = |line: &Value| line["request_id"] == id;
    let lines = eventually("three lines", async || {
        let lines: Vec<_> = service.logs().into_iter().filter(of_request).collect();
        let has = |target| lines.iter().any(|line| line["target"] == target);
        let event = lines.iter().any(|line| line["fingerprint"].is_string());
        (has("panic") && has("request") && event).then_some(lines)
    })
    .await;
    let line = |target: &str| lines.iter().find(|line| line["target"] == target).unwrap();
    let panic = line("panic");
    assert_eq!(panic["level"], "error");
    assert_eq!(panic["message"], "a thread panicked");
    assert_eq!(panic["panic"], "injected fault");
    assert!(panic["file"].as_str().unwrap().ends_with("fault_layer.rs"));
    assert!(panic["line"].as_u64().unwrap() > 0);
    assert_eq!(panic["trace_id"], problem["trace_id"]);
    assert_eq!(line("request")["status"], 500);
    let event = lines.iter().find(|line| line["fingerprint"].is_string());
    assert_eq!(event.unwrap()["level"], "error");
    assert_eq!(event.unwrap()["code"], "INTERNAL");
    assert_eq!(
        event.unwrap()["fingerprint"].as_str().map(str::len),
        Some(16)
    );
    let parts = [
        "INTERNAL",
        PING,
        "Panicked",
        panic["file"].as_str().unwrap(),
    ];
    let fingerprint = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    // FNV-1a.
    let fingerprint = fingerprint.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    assert_eq!(event.unwrap()["fingerprint"], format!("{fingerprint:016x}"));
    let metrics = service.metrics().await;
    assert_eq!(metrics.get("panics_total", &[]), Some(1.0));
    assert_eq!(
        metrics.get("faults_injected_total", &[("kind", "panic")]),
        Some(1.0)
    );
    let failed = [("path", PING), ("status", "500")];
    assert_eq!(metrics.sum("http_requests_total", &failed), 1.0);
    assert_eq!(metrics.get("http_requests_in_flight", &[]), Some(0.0));
    put(&service, "/faults", &json!({ "path": PING })).await;
    assert_eq!(public(&service, PING).await.0, 200);
    assert_eq!(service.terminate().await, Some(0));
    for line in service.stdout() {
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
    let stderr = service.stderr().join("\n");
    assert!(!stderr.contains("panicked"), "{stderr}");
}
