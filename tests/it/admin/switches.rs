//! Changes of log filter and trace sampling at run time.

use serde_json::json;

use super::{get, public, put};
use crate::support::{Backend, Service, eventually};

/// Debug lines of the database driver, which the readiness check produces continuously.
fn debug_lines(service: &Service) -> usize {
    let lines = service.logs();
    let debug = lines.iter().filter(|line| line["level"] == "debug");
    debug.count()
}

/// `curl -X PUT -d` sends a media type of its own, and minimal clients send none.
#[tokio::test]
async fn a_body_without_media_type_is_read_as_json() {
    let service = Service::start(Backend::Sqlite).await;
    for (path, body) in [
        ("/log-filter", r#"{"filter": "warn"}"#),
        ("/trace-sampling", r#"{"ratio": 0.25}"#),
        ("/faults", r#"{"path": "/api/v1/ping", "status": 500}"#),
    ] {
        for media_type in ["", "application/x-www-form-urlencoded", "application/json"] {
            let mut request = service.client.put(service.admin(path)).body(body);
            if !media_type.is_empty() {
                request = request.header("content-type", media_type);
            }
            let status = request.send().await.unwrap().status();
            assert_eq!(status, 200, "{path} {media_type}");
        }
        let request = service.client.put(service.admin(path)).body(body);
        let other = request.header("content-type", "text/plain").send().await;
        assert_eq!(other.unwrap().status(), 415, "{path}");
    }
    assert_eq!(
        get(&service, "/log-filter").await.body,
        json!({ "filter": "warn" })
    );
    let broken = service.client.put(service.admin("/log-filter"));
    let broken = broken.body("filter=warn").send().await.unwrap();
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn a_temporary_log_filter_is_reverted() {
    let service = Service::start(Backend::Sqlite).await;
    assert_eq!(
        get(&service, "/log-filter").await.body,
        json!({ "filter": "info" })
    );
    assert_eq!(debug_lines(&service), 0);
    let body = json!({ "filter": "debug", "ttl": "2s" });
    let answer = put(&service, "/log-filter", &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["filter"], "debug");
    assert_eq!(answer.body["ttl"], "2s");
    assert_eq!(answer.body["returns_to"], "info");
    assert!(answer.body["returns_at"].as_str().unwrap().ends_with('Z'));
    eventually("debug lines", async || {
        (debug_lines(&service) > 0).then_some(())
    })
    .await;
    eventually("the return", async || {
        let state = get(&service, "/log-filter").await.body;
        (state == json!({ "filter": "info" })).then_some(())
    })
    .await;
    // Lines from before the revert precede the line that announces it.
    eventually("the announcement", async || {
        let changes = service.logs().into_iter().filter(|line| {
            line["message"] == "the log filter was changed" && line["filter"] == "info"
        });
        (changes.count() == 1).then_some(())
    })
    .await;
    let lines = service.logs();
    let returned = lines.iter().position(|line| {
        line["message"] == "the log filter was changed" && line["filter"] == "info"
    });
    // The readiness check has queried the database several times since.
    let checked = service
        .metrics()
        .await
        .get("log_lines_total", &[("level", "debug")]);
    for _ in 0..20 {
        public(&service, "/api/v1/ping").await;
    }
    let after = service
        .metrics()
        .await
        .get("log_lines_total", &[("level", "debug")]);
    assert_eq!(checked, after);
    let late = lines[returned.unwrap()..]
        .iter()
        .filter(|line| line["level"] == "debug");
    // A line of another thread may arrive late.
    assert!(late.count() <= 1);
}

/// A log must show where it was silenced and when it resumed.
#[tokio::test]
async fn silencing_and_resuming_the_log_are_logged() {
    let service = Service::start(Backend::Sqlite).await;
    let body = json!({ "filter": "off", "ttl": "100ms" });
    assert_eq!(put(&service, "/log-filter", &body).await.status, 200);
    for filter in ["off", "info"] {
        eventually(filter, async || {
            let lines = service.logs();
            let announces = lines.iter().any(|line| {
                line["message"] == "the log filter was changed" && line["filter"] == filter
            });
            announces.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_changed_filter_applies_to_request_lines() {
    let service = Service::start(Backend::Sqlite).await;
    let lines = async || {
        service
            .metrics()
            .await
            .sum("log_lines_total", &[("level", "info")])
    };
    let off = json!({ "filter": "info,request=off" });
    assert_eq!(put(&service, "/log-filter", &off).await.status, 200);
    let before = lines().await;
    for _ in 0..5 {
        public(&service, "/api/v1/ping").await;
    }
    assert_eq!(lines().await, before);
    let on = json!({ "filter": "info" });
    assert_eq!(put(&service, "/log-filter", &on).await.status, 200);
    for _ in 0..5 {
        public(&service, "/api/v1/ping").await;
    }
    eventually("five request lines", async || {
        (lines().await == before + 5.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rejected_changes_have_no_effect() {
    let service = Service::start(Backend::Sqlite).await;
    let before = get(&service, "/log-filter").await.body;
    for (body, field, word) in [
        (
            json!({ "filter": "info,request=loud" }),
            "filter",
            "directive 2",
        ),
        (json!({ "filter": "" }), "filter", "empty"),
        (json!({ "filter": 7 }), "filter", "type"),
        (json!({ "ttl": "5m" }), "filter", "required"),
        (json!({ "filter": "debug", "ttl": "5" }), "ttl", "duration"),
        (json!({ "filter": "debug", "ttl": "0s" }), "ttl", "longer"),
        (
            json!({ "filter": "debug", "ttl": "18446744073709551615s" }),
            "ttl",
            "at most",
        ),
    ] {
        let answer = put(&service, "/log-filter", &body).await;
        assert_eq!(answer.status, 422, "{body}");
        let error = &answer.body["errors"][0];
        assert_eq!(error["field"], field, "{body}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    assert_eq!(get(&service, "/log-filter").await.body, before);
    let before = get(&service, "/trace-sampling").await.body;
    assert_eq!(before, json!({ "ratio": 1.0 }));
    for body in [
        json!({ "ratio": 1.1 }),
        json!({ "ratio": -0.1 }),
        json!({ "ratio": "half" }),
        json!({ "ratio": 0, "ttl": "soon" }),
        json!({}),
    ] {
        let answer = put(&service, "/trace-sampling", &body).await;
        assert_eq!(answer.status, 422, "{body}");
    }
    assert_eq!(get(&service, "/trace-sampling").await.body, before);
}

/// The sampled flag of a request's trace.
async fn sampled(service: &Service) -> bool {
    let ping = service.client.get(service.url("/api/v1/ping"));
    let answer = ping.send().await.unwrap();
    let trace = answer.headers()["traceresponse"]
        .to_str()
        .unwrap()
        .to_owned();
    trace.ends_with("-01")
}

#[tokio::test]
async fn a_temporary_sampling_ratio_is_reverted() {
    // Nothing listens there. Sampling does not depend on a reachable collector.
    let service = Service::builder(Backend::Sqlite)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .start()
        .await;
    assert!(sampled(&service).await);
    let answer = put(
        &service,
        "/trace-sampling",
        &json!({ "ratio": 0, "ttl": "1s" }),
    )
    .await;
    assert_eq!(answer.body["ratio"], 0.0);
    assert_eq!(answer.body["returns_to"], 1.0);
    assert!(!sampled(&service).await);
    eventually("the return", async || sampled(&service).await.then_some(())).await;
    assert_eq!(
        get(&service, "/trace-sampling").await.body,
        json!({ "ratio": 1.0 })
    );
    // Overlapping changes revert to the state before the first one. A change without a time stays.
    put(
        &service,
        "/trace-sampling",
        &json!({ "ratio": 0.5, "ttl": "5m" }),
    )
    .await;
    let answer = put(
        &service,
        "/trace-sampling",
        &json!({ "ratio": 0, "ttl": "1h" }),
    )
    .await;
    assert_eq!(answer.body["returns_to"], 1.0);
    let answer = put(&service, "/trace-sampling", &json!({ "ratio": 0.0 })).await;
    assert_eq!(answer.body, json!({ "ratio": 0.0 }));
    assert!(!sampled(&service).await);
}

#[tokio::test]
async fn a_pending_revert_does_not_delay_the_exit() {
    let mut service = Service::start(Backend::Sqlite).await;
    put(
        &service,
        "/log-filter",
        &json!({ "filter": "warn", "ttl": "1h" }),
    )
    .await;
    let began = std::time::Instant::now();
    assert_eq!(service.terminate().await, Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(4));
}
