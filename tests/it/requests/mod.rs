//! The public listener: problems, ids and limits.

mod bodies;
mod framing;
mod headers;
mod heads;

use serde_json::Value;

use crate::support::{Backend, Service, eventually};

async fn problem(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    (status, answer.json().await.expect("a problem is JSON"))
}

#[tokio::test]
async fn a_ping_is_answered_with_all_headers() {
    let service = Service::start(Backend::Sqlite).await;
    let answer = service
        .client
        .get(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-request-id"));
    let trace = answer.headers()["traceresponse"].to_str().unwrap();
    assert_eq!(
        trace.split('-').map(str::len).collect::<Vec<_>>(),
        [2, 32, 16, 2]
    );
    assert_eq!(answer.text().await.unwrap(), r#"{"message":"pong"}"#);
    let metrics = service.metrics().await;
    let labels = [("method", "GET"), ("path", "/api/v1/ping")];
    assert_eq!(
        metrics.get("http_request_duration_seconds_count", &labels),
        Some(1.0)
    );
    let labels = [
        ("method", "GET"),
        ("path", "/api/v1/ping"),
        ("status", "200"),
    ];
    assert_eq!(metrics.get("http_requests_total", &labels), Some(1.0));
    assert_eq!(metrics.get("http_requests_in_flight", &[]), Some(0.0));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_under_one_label() {
    let service = Service::start(Backend::Sqlite).await;
    let answer = service
        .client
        .get(service.url("/no/such/thing?q=1"))
        .send()
        .await
        .unwrap();
    let id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let (status, body) = problem(answer).await;
    assert_eq!((status, body["code"].as_str()), (404, Some("NOT_FOUND")));
    assert_eq!(body["request_id"], id.as_str());
    assert_eq!(body["trace_id"].as_str().map(str::len), Some(32));

    let answer = service
        .client
        .delete(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
    let (status, body) = problem(answer).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (405, Some("METHOD_NOT_ALLOWED"))
    );
    assert!(allow.split(',').any(|method| method == "GET"), "{allow}");

    let metrics = service.metrics().await;
    assert_eq!(
        metrics.sum("http_requests_total", &[("path", "unmatched")]),
        1.0
    );
    assert_eq!(
        metrics.get("errors_total", &[("type", "not_found")]),
        Some(1.0)
    );
}

#[tokio::test]
async fn only_short_visible_request_ids_are_accepted() {
    let service = Service::start(Backend::Sqlite).await;
    let long = "a".repeat(129);
    for (sent, kept) in [
        ("order-42", true),
        (long.as_str(), false),
        ("with space", false),
    ] {
        let request = service
            .client
            .get(service.url("/api/v1/ping"))
            .header("x-request-id", sent);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"] == sent, kept, "{sent}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let service = Service::start(Backend::Sqlite).await;
    let answer = service
        .client
        .head(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-length"], "18");
    let labels = [("method", "HEAD"), ("status", "200")];
    assert_eq!(
        service.metrics().await.sum("http_requests_total", &labels),
        1.0
    );
}

#[tokio::test]
async fn a_refused_client_succeeds_after_retry_after() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", "2")
        .env("APP__RATE_LIMIT__DEFAULT__BURST", "3")
        .start()
        .await;
    let ping = || service.client.get(service.url("/api/v1/ping")).send();
    for _ in 0..3 {
        assert_eq!(ping().await.unwrap().status(), 200);
    }
    let refused = ping().await.unwrap();
    let headers = refused.headers().clone();
    let (status, body) = problem(refused).await;
    assert_eq!((status, body["code"].as_str()), (429, Some("RATE_LIMITED")));
    assert_eq!(headers["ratelimit-policy"], "\"address\";q=3;w=2");
    assert!(headers.contains_key("ratelimit"));
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
    // The promise of the header is tested, so the test waits for that time.
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    assert_eq!(ping().await.unwrap().status(), 200);
    let metrics = service.metrics().await;
    let rejected = [("limiter", "address"), ("decision", "rejected")];
    assert_eq!(
        metrics.get("rate_limit_decisions_total", &rejected),
        Some(1.0)
    );
    let allowed = [("limiter", "address"), ("decision", "allowed")];
    assert_eq!(
        metrics.get("rate_limit_decisions_total", &allowed),
        Some(4.0)
    );
}

#[tokio::test]
async fn probes_are_never_limited_counted_or_verbose_on_the_public_listener() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__BURST", "1")
        .start()
        .await;
    for _ in 0..20 {
        for path in ["/health/live", "/health/startup", "/health/ready"] {
            let answer = service.client.get(service.url(path)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.text().await.unwrap(), r#"{"status":"ok"}"#);
        }
    }
    assert_eq!(service.metrics().await.sum("http_requests_total", &[]), 0.0);
    let verbose = service
        .client
        .get(service.admin("/health/ready"))
        .send()
        .await
        .unwrap();
    let verbose: Value = verbose.json().await.unwrap();
    assert_eq!(verbose["checks"]["database"]["up"], true);
}

#[tokio::test]
async fn the_admin_listener_answers_problems_and_demands_a_loopback_host_in_development() {
    let service = Service::start(Backend::Sqlite).await;
    let foreign = service
        .client
        .get(service.admin("/info"))
        .header("host", "evil.example");
    let (status, body) = problem(foreign.send().await.unwrap()).await;
    assert_eq!((status, body["code"].as_str()), (403, Some("FORBIDDEN")));
    let (status, _) = problem(
        service
            .client
            .get(service.admin("/x"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, 404);
    let public = service
        .client
        .get(service.url("/metrics"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        public.status(),
        404,
        "metrics are never on the public listener"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_at_once_and_counted() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_CONNECTIONS", "2")
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(
            tokio::net::TcpStream::connect(service.address())
                .await
                .unwrap(),
        );
    }
    let refused = [("reason", "connections")];
    eventually("a refused connection", async || {
        let metrics = service.metrics().await;
        (metrics.get("http_shed_total", &refused)? >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_documentation_is_served_from_the_binary() {
    let service = Service::start(Backend::Sqlite).await;
    let document: Value = service
        .client
        .get(service.url("/openapi.json"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(document["paths"]["/api/v1/ping"]["get"].is_object());
    let page = service
        .client
        .get(service.url("/docs/"))
        .send()
        .await
        .unwrap();
    assert!(page.text().await.unwrap().contains("swagger-ui"));
}
