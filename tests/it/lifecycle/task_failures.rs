//! A failing task starts an orderly shutdown with a failing exit code.

use serde_json::{Value, json};

use super::drain::{in_flight, lines, slow_pings};
use crate::support::{Backend, Service};

async fn inject_fault(service: &Service, fault: &Value) {
    let put = service.client.put(service.admin("/faults")).json(fault);
    assert_eq!(put.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_panicking_task_starts_a_failing_shutdown() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("RUST_LOG", "info,lifecycle=debug")
        .env("APP__WORKERS__CLEANUP_INTERVAL", "50ms")
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .start()
        .await;
    slow_pings(&service, "2s").await;
    let asked = tokio::spawn(service.client.get(service.url("/api/v1/ping")).send());
    in_flight(&service, 1.0).await;
    inject_fault(
        &service,
        &json!({ "path": "worker:cleanup", "panic": true }),
    )
    .await;
    // Without a signal.
    assert_eq!(service.wait().await.code(), Some(1));
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200, "who was in flight is served");
    let logs = service.logs();
    let died = lines(&logs, "a task panicked");
    assert_eq!(died.len(), 1, "{logs:#?}");
    assert_eq!(
        (&died[0]["task"], &died[0]["panic"], &died[0]["level"]),
        (&json!("cleanup"), &json!("injected fault"), &json!("error"))
    );
    let panicked = lines(&logs, "a thread panicked");
    assert_eq!(panicked.len(), 1, "the hook that counts has seen it");
    let down = lines(&logs, "shutting down");
    assert_eq!(down[0]["reason"], "cleanup");
    assert_eq!(lines(&logs, "shutdown step").len(), 5);
}

#[tokio::test]
async fn a_failed_worker_run_does_not_end_the_process() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__WORKERS__CLEANUP_INTERVAL", "50ms")
        .start()
        .await;
    inject_fault(
        &service,
        &json!({ "path": "worker:cleanup", "status": 500 }),
    )
    .await;
    let failed = [("worker", "cleanup"), ("outcome", "failed")];
    crate::support::eventually("a run fails", async || {
        let metrics = service.metrics().await;
        (metrics.get("worker_runs_total", &failed)? > 0.0).then_some(())
    })
    .await;
    let metrics = service.metrics().await;
    assert_eq!(
        metrics.get("lifecycle_state", &[("state", "ready")]),
        Some(1.0)
    );
    assert_eq!(service.terminate().await, Some(0));
}
