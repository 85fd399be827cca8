//! Fault injection.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, get, public, put};
use crate::support::{Backend, Samples, Service, eventually};

const PING: &str = "/api/v1/ping";

fn requests(metrics: &Samples, path: &str, status: &str) -> f64 {
    metrics.sum("http_requests_total", &[("path", path), ("status", status)])
}

#[tokio::test]
async fn an_injected_error_is_answered_counted_and_cleared() {
    let service = Service::start(Backend::Sqlite).await;
    let before = service.metrics().await;
    assert_eq!(before.get("faults_active", &[]), Some(0.0));
    for kind in ["latency", "error", "panic"] {
        assert_eq!(
            before.get("faults_injected_total", &[("kind", kind)]),
            Some(0.0)
        );
    }
    let fault = json!({ "path": PING, "status": 503, "ttl": "5m" });
    let answer = put(&service, "/faults", &fault).await;
    assert_eq!(answer.status, 200);
    let item = &answer.body["items"][0];
    assert_eq!(item["path"], PING);
    assert_eq!(item["status"], 503);
    assert_eq!(item["ttl"], "5m");
    assert!(item["expires_at"].is_string());
    assert_eq!(get(&service, "/faults").await.body, answer.body);
    assert_eq!(
        public(&service, PING).await,
        (503, Some("FAULT_INJECTED".to_owned()))
    );
    assert_eq!(public(&service, "/health/live").await.0, 200);
    assert_eq!(public(&service, "/.well-known/jwks.json").await.0, 200);
    // A method that the route does not support is rejected before the fault applies.
    let wrong = service.client.post(service.url(PING)).send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    let cleared = ask(&service, Method::DELETE, "/faults", None, &[]).await;
    cleared.is(200);
    assert_eq!(cleared.body["items"], json!([]));
    assert_eq!(public(&service, PING).await.0, 200);
    let metrics = service.metrics().await;
    assert_eq!(requests(&metrics, PING, "503"), 1.0);
    assert_eq!(requests(&metrics, PING, "200"), 1.0);
    assert_eq!(
        metrics.get("faults_injected_total", &[("kind", "error")]),
        Some(1.0)
    );
    assert_eq!(
        metrics.get("errors_total", &[("type", "fault_injected")]),
        Some(1.0)
    );
    eventually("the log", async || {
        let lines = service.logs();
        let line = lines
            .iter()
            .find(|line| line["message"] == "fault injected")?;
        assert_eq!(line["kind"], "error");
        assert!(line["request_id"].is_string());
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_fault_applies_by_ratio_and_expires() {
    let service = Service::start(Backend::Sqlite).await;
    let other = "/api/v1/auth/login";
    put(&service, "/faults", &json!({ "path": PING, "status": 500 })).await;
    put(
        &service,
        "/faults",
        &json!({ "path": other, "status": 418 }),
    )
    .await;
    let never = json!({ "path": PING, "status": 500, "ratio": 0 });
    let state = put(&service, "/faults", &never).await.body;
    assert_eq!(state["items"].as_array().map(Vec::len), Some(2));
    for _ in 0..50 {
        assert_eq!(public(&service, PING).await.0, 200);
    }
    let half = json!({ "path": PING, "status": 500, "ratio": 0.5 });
    put(&service, "/faults", &half).await;
    let mut failed = 0;
    for _ in 0..200 {
        failed += u32::from(public(&service, PING).await.0 == 500);
    }
    // Six standard deviations.
    assert!((57..=143).contains(&failed), "{failed}");
    let path = format!("/faults?path={PING}");
    let state = ask(&service, Method::DELETE, &path, None, &[]).await.body;
    assert_eq!(state["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(state["items"][0]["path"], other);
    let brief = json!({ "path": PING, "status": 500, "ttl": "1s" });
    put(&service, "/faults", &brief).await;
    assert_eq!(public(&service, PING).await.0, 500);
    eventually("the end of the fault", async || {
        (service.metrics().await.get("faults_active", &[])? == 1.0).then_some(())
    })
    .await;
    assert_eq!(public(&service, PING).await.0, 200);
}

#[tokio::test]
async fn rejected_faults_have_no_effect() {
    let service = Service::start(Backend::Sqlite).await;
    let fault = json!({ "path": PING, "status": 418 });
    let before = put(&service, "/faults", &fault).await.body;
    for (status, body) in [
        (422, json!({ "path": "/api/v1/nothing", "status": 500 })),
        (422, json!({ "path": "/health/live", "status": 500 })),
        (422, json!({ "path": PING, "status": 200 })),
        (422, json!({ "path": PING, "latency": "2" })),
        (422, json!({ "path": PING, "ratio": 1.5 })),
        (422, json!({ "path": PING, "ttl": "0s" })),
        (422, json!({ "path": PING, "ttl": "18446744073709551615s" })),
        (422, json!({ "status": 500 })),
        (400, json!({ "path": PING, "delay": "1s" })),
    ] {
        let answer = put(&service, "/faults", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    for (status, path) in [
        (400, "/faults?route=/api/v1/ping"),
        (422, "/faults?path=/api/v1/pong"),
    ] {
        let answer = ask(&service, Method::DELETE, path, None, &[]).await;
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(get(&service, "/faults").await.body, before);
}

#[tokio::test]
async fn latency_beyond_the_deadline_is_a_timeout() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__REQUEST_TIMEOUT", "300ms")
        .start()
        .await;
    put(
        &service,
        "/faults",
        &json!({ "path": PING, "latency": "1h" }),
    )
    .await;
    let answer = public(&service, PING).await;
    assert_eq!(answer, (503, Some("DEADLINE_EXCEEDED".to_owned())));
    let metrics = service.metrics().await;
    assert_eq!(requests(&metrics, PING, "503"), 1.0);
    assert_eq!(
        metrics.get("faults_injected_total", &[("kind", "latency")]),
        Some(1.0)
    );
    // Latency below the deadline only delays the response.
    put(
        &service,
        "/faults",
        &json!({ "path": PING, "latency": "100ms" }),
    )
    .await;
    let began = Instant::now();
    assert_eq!(public(&service, PING).await.0, 200);
    assert!(began.elapsed().as_millis() >= 100);
}

#[tokio::test]
async fn a_fault_acts_after_authentication_and_limits() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__AUTH__PER_SECOND", "0.001")
        .env("APP__RATE_LIMIT__AUTH__BURST", "2")
        .start()
        .await;
    let login = json!({
        "email": crate::support::service::ADMIN_EMAIL,
        "password": crate::support::service::ADMIN_PASSWORD,
    });
    let login = service
        .client
        .post(service.url("/api/v1/auth/login"))
        .json(&login);
    let tokens: Value = login.send().await.unwrap().json().await.unwrap();
    let token = tokens["access_token"].as_str().unwrap();
    for path in ["/api/v1/accounts/{id}", "/api/v1/auth/login"] {
        let fault = json!({ "path": path, "status": 500 });
        assert_eq!(put(&service, "/faults", &fault).await.status, 200);
    }
    let account = service.url("/api/v1/accounts/0190a6e2-0000-7000-8000-000000000000");
    let stranger = service.client.get(&account).send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    let forged = service.client.get(&account).bearer_auth("forged");
    assert_eq!(forged.send().await.unwrap().status(), 401);
    let user = service.client.get(&account).bearer_auth(token);
    assert_eq!(user.send().await.unwrap().status(), 500);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let login = service.client.post(service.url("/api/v1/auth/login"));
        answers.push(login.send().await.unwrap().status().as_u16());
    }
    assert_eq!(answers, [500, 429]);
}

#[tokio::test]
async fn a_fault_stays_in_force_during_a_drain() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__DRAIN_DELAY", "2s")
        .start()
        .await;
    put(
        &service,
        "/faults",
        &json!({ "path": PING, "latency": "1s" }),
    )
    .await;
    service.signal("TERM");
    eventually("the drain", async || {
        (get(&service, "/health/ready").await.status == 503).then_some(())
    })
    .await;
    let began = Instant::now();
    assert_eq!(public(&service, PING).await.0, 200);
    assert!(began.elapsed().as_millis() >= 1_000);
    assert_eq!(
        get(&service, "/faults").await.body["items"][0]["path"],
        PING
    );
    assert_eq!(service.wait().await.code(), Some(0));
}

#[tokio::test]
async fn clearing_a_fault_does_not_release_delayed_requests() {
    let service = Service::start(Backend::Sqlite).await;
    put(
        &service,
        "/faults",
        &json!({ "path": PING, "latency": "1s" }),
    )
    .await;
    let began = Instant::now();
    let waiting = async {
        assert_eq!(public(&service, PING).await.0, 200);
        began.elapsed()
    };
    let clearing = async {
        eventually("the injection", async || {
            let count = service
                .metrics()
                .await
                .get("faults_injected_total", &[("kind", "latency")]);
            (count == Some(1.0)).then_some(())
        })
        .await;
        ask(&service, Method::DELETE, "/faults", None, &[]).await;
    };
    let (waited, ()) = tokio::join!(waiting, clearing);
    assert!(waited.as_millis() >= 1_000);
}
