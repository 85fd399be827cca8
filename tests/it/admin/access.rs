//! Access to the admin listener in both profiles.

use reqwest::Method;
use serde_json::{Value, json};

use super::{TOKEN, ask, get, production};
use crate::support::raw_http::exchange_on;
use crate::support::{Backend, Service};

/// All writing endpoints with a valid body, and the endpoints under `/debug`.
fn guarded() -> [(Method, &'static str, Option<Value>); 6] {
    [
        (
            Method::PUT,
            "/log-filter",
            Some(json!({ "filter": "debug" })),
        ),
        (Method::PUT, "/trace-sampling", Some(json!({ "ratio": 1 }))),
        (
            Method::PUT,
            "/faults",
            Some(json!({ "path": "/api/v1/ping", "status": 500 })),
        ),
        (Method::DELETE, "/faults", None),
        (Method::GET, "/debug/tasks", None),
        (Method::GET, "/debug/", None),
    ]
}

#[tokio::test]
async fn production_without_a_token_rejects_writes() {
    let folder = tempfile::tempdir().unwrap();
    let service = production(folder.path())
        .env("APP__ADMIN__FAULT_INJECTION", "true")
        .start()
        .await;
    let bearer = format!("Bearer {TOKEN}");
    for headers in [&[][..], &[("authorization", bearer.as_str())][..]] {
        for (method, path, body) in guarded() {
            let answer = ask(&service, method, path, body.as_ref(), headers).await;
            assert_eq!(answer.status, 404, "{path}");
            assert_eq!(answer.body["code"], "NOT_FOUND", "{path}");
        }
    }
    for path in ["/metrics", "/info", "/health/live", "/log-filter"] {
        assert_eq!(get(&service, path).await.status, 200, "{path}");
    }
    assert_eq!(get(&service, "/log-filter").await.body["filter"], "info");
    assert_eq!(get(&service, "/faults").await.body["items"], json!([]));
    // Only development has a link to the documentation.
    assert_eq!(super::public(&service, "/").await.0, 404);
}

#[tokio::test]
async fn the_production_token_permits_writes_and_is_not_logged() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = production(folder.path())
        .env("APP__ADMIN__FAULT_INJECTION", "true")
        .env("APP__ADMIN__TOKEN", TOKEN)
        .env("APP__ADMIN__MAX_TOKEN_GUESSES", "100")
        .start()
        .await;
    let wrong = [
        ("Bearer another-token", "Bearer error=\"invalid_token\""),
        ("Bearer ", "Bearer error=\"invalid_token\""),
        (
            "Bearer a-token-that-no-log-may-show-012345678X",
            "Bearer error=\"invalid_token\"",
        ),
        ("Basic YTpi", "Bearer error=\"invalid_token\""),
    ];
    for (method, path, body) in guarded() {
        let without = ask(&service, method.clone(), path, body.as_ref(), &[]).await;
        assert_eq!(without.status, 401, "{path}");
        assert_eq!(without.header("www-authenticate"), "Bearer");
        assert_eq!(without.body["code"], "UNAUTHENTICATED");
        for (value, challenge) in wrong {
            let headers = [("authorization", value)];
            let answer = ask(&service, method.clone(), path, body.as_ref(), &headers).await;
            assert_eq!(answer.status, 401, "{path} with {value}");
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
    }
    assert_eq!(get(&service, "/log-filter").await.body["filter"], "info");
    assert_eq!(get(&service, "/faults").await.body["items"], json!([]));
    let bearer = format!("Bearer {TOKEN}");
    for (method, path, body) in guarded() {
        let headers = [("authorization", bearer.as_str())];
        let answer = ask(&service, method, path, body.as_ref(), &headers).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    assert_eq!(service.terminate().await, Some(0));
    let output = service.stdout().join("\n") + &service.stderr().join("\n");
    assert!(!output.contains("no-log-may-show"), "the token leaked");
}

#[tokio::test]
async fn faults_are_absent_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let service = production(folder.path())
        .env("APP__ADMIN__TOKEN", TOKEN)
        .start()
        .await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let fault = json!({ "path": "/api/v1/ping", "status": 500 });
    for (method, body) in [
        (Method::PUT, Some(&fault)),
        (Method::GET, None),
        (Method::DELETE, None),
    ] {
        let answer = ask(&service, method, "/faults", body, &headers).await;
        assert_eq!(answer.status, 404);
    }
    assert_eq!(super::public(&service, "/api/v1/ping").await.0, 200);
}

#[tokio::test]
async fn development_requires_a_loopback_host() {
    let service = Service::start(Backend::Sqlite).await;
    for (host, status) in [
        ("localhost:9464", 200),
        ("127.0.0.1", 200),
        ("[::1]:9464", 200),
        ("rebound.example", 403),
        ("127.0.0.1.example", 403),
    ] {
        for path in ["/info", "/log-filter", "/debug/tasks"] {
            let answer = ask(&service, Method::GET, path, None, &[("host", host)]).await;
            assert_eq!(answer.status, status, "{host} {path}");
        }
        let body = json!({ "filter": "info" });
        let headers = [("host", host)];
        let answer = ask(&service, Method::PUT, "/log-filter", Some(&body), &headers).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn guesses_of_the_token_are_limited_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let service = production(folder.path())
        .env("APP__ADMIN__TOKEN", TOKEN)
        .env("APP__ADMIN__MAX_TOKEN_GUESSES", "3")
        .start()
        .await;
    let body = json!({ "filter": "debug" });
    let put = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        ask(&service, Method::PUT, "/log-filter", Some(&body), &headers).await
    };
    assert_eq!(put(TOKEN).await.status, 200);
    for _ in 0..3 {
        assert_eq!(put("a-guess").await.status, 401);
    }
    for token in ["a-guess", TOKEN] {
        let answer = put(token).await;
        assert_eq!(answer.status, 429, "{token}");
        assert_eq!(answer.body["code"], "RATE_LIMITED");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let metrics = service.metrics().await;
    for (outcome, count) in [("accepted", 1.0), ("refused", 3.0), ("limited", 2.0)] {
        let counted = metrics.get("admin_token_checks_total", &[("outcome", outcome)]);
        assert_eq!(counted, Some(count), "{outcome}");
    }
}

/// Sends bytes to the admin listener and returns its response.
async fn exchange_with_admin(service: &Service, request: &str) -> String {
    let url = service.admin("");
    let address = url.trim_start_matches("http://");
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    exchange_on(stream, request.as_bytes()).await
}

/// Load balancers check by HTTP/1.0 without `Host`, and Prometheus scrapes by service name.
#[tokio::test]
async fn probes_and_scrapes_are_answered_for_any_host() {
    let service = Service::start(Backend::Sqlite).await;
    let probes = [
        "/metrics",
        "/health/live",
        "/health/ready",
        "/health/startup",
    ];
    let kept = [
        "/",
        "/info",
        "/log-filter",
        "/trace-sampling",
        "/faults",
        "/debug/tasks",
    ];
    let paths = probes.map(|path| (path, "200"));
    for (path, status) in paths.into_iter().chain(kept.map(|path| (path, "403"))) {
        for host in [
            "",
            "Host: gantry:9464\r\n",
            "Host: [fd00::1]:9464\r\n",
            "Host: a_b\r\n",
        ] {
            for version in ["1.0", "1.1"] {
                if version == "1.1" && host.is_empty() {
                    // RFC 9112, section 3.2.
                    continue;
                }
                let request =
                    format!("GET {path} HTTP/{version}\r\n{host}Connection: close\r\n\r\n");
                let answer = exchange_with_admin(&service, &request).await;
                let line = answer.lines().next().unwrap_or_default();
                assert!(line.contains(status), "{path} {version} {host:?}: {line}");
            }
        }
    }
    // Only read methods count as probes.
    let request = "POST /metrics HTTP/1.1\r\nHost: gantry\r\nConnection: close\r\n\r\n";
    assert!(
        exchange_with_admin(&service, request)
            .await
            .contains(" 403 ")
    );
}

#[tokio::test]
async fn problems_contain_the_ids_of_the_response() {
    let service = Service::start(Backend::Sqlite).await;
    let own = [("x-request-id", "mine")];
    for (method, path, body, headers, status) in [
        (Method::GET, "/nothing", None, &own[..], 404),
        (Method::POST, "/metrics", None, &[], 405),
        (Method::PUT, "/log-filter", Some(json!([])), &[], 422),
        (
            Method::PUT,
            "/log-filter",
            Some(json!({ "x": 1 })),
            &[],
            400,
        ),
        (
            Method::PUT,
            "/log-filter",
            None,
            &[("content-type", "text/plain")],
            415,
        ),
        (Method::GET, "/info", None, &[("host", "x.example")], 403),
        (
            Method::PUT,
            "/log-filter",
            Some(json!({ "filter": "x".repeat(70_000) })),
            &[],
            413,
        ),
    ] {
        let answer = ask(&service, method, path, body.as_ref(), headers).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let id = answer.header("x-request-id");
        assert_eq!(answer.body["request_id"], id);
        assert!(!id.is_empty());
        assert_eq!(answer.body["trace_id"].as_str().map(str::len), Some(32));
        if headers == own {
            assert_eq!(id, "mine");
        }
    }
    let answer = get(&service, "/metrics").await;
    assert!(answer.headers.contains_key("x-request-id"));
    // None of these requests appears in the request metrics.
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("http_requests_total", &[]), 0.0);
    let lines = service.logs();
    assert!(!lines.iter().any(|line| line["target"] == "request"));
}

#[tokio::test]
async fn info_describes_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let service = production(folder.path())
        .env("APP__ADMIN__TOKEN", TOKEN)
        .start()
        .await;
    let info = get(&service, "/info").await.body;
    assert_eq!(info["name"], env!("CARGO_PKG_NAME"));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["profile"], "production");
    assert_eq!(info["features"], json!(["sqlite", "postgres"]));
    assert!(info["revision"].is_string());
    let rust = info["rust"].as_str().unwrap();
    assert!(rust.starts_with("1."), "{rust}");
    assert!(info["uptime_seconds"].as_f64().unwrap() > 0.0);
    let started = info["started_at"].as_str().unwrap();
    time::OffsetDateTime::parse(started, &time::format_description::well_known::Rfc3339).unwrap();
    let migrations = info["migrations"].as_array().unwrap();
    assert!(migrations.iter().any(|name| name == "1 identity"), "{info}");
    let text = info.to_string();
    assert!(!text.contains(TOKEN) && !text.contains("sqlite:"), "{text}");
}
