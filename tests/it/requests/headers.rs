//! Response headers for browsers, caches and proxies.

use serde_json::Value;

use crate::support::{Backend, Service, eventually};

const ORIGIN: &str = "https://app.example";

async fn with_cors() -> Service {
    Service::builder(Backend::Sqlite)
        .env("APP__HTTP__CORS__ALLOWED_ORIGINS", ORIGIN)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", "0.01")
        .env("APP__RATE_LIMIT__DEFAULT__BURST", "1")
        .start()
        .await
}

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = service.client.get(service.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn preflights_are_not_limited_and_pages_can_read_refusals() {
    let service = with_cors().await;
    let origin = [("origin", ORIGIN)];
    let first = get(&service, "/api/v1/ping", &origin).await;
    assert_eq!(first.status(), 200);
    for (path, expected) in [("/api/v1/ping", 429), ("/no/such/thing", 429)] {
        let refused = get(&service, path, &origin).await;
        assert_eq!(refused.status(), expected);
        assert_eq!(refused.headers()["access-control-allow-origin"], ORIGIN);
        let vary = refused.headers()["vary"].to_str().unwrap().to_lowercase();
        assert!(vary.contains("origin"), "{vary}");
    }
    for _ in 0..20 {
        let request = service
            .client
            .request(reqwest::Method::OPTIONS, service.url("/api/v1/accounts"))
            .header("origin", ORIGIN)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,idempotency-key",
            );
        let preflight = request.send().await.unwrap();
        assert_eq!(preflight.status(), 200);
        let headers = preflight.headers();
        assert_eq!(headers["access-control-allow-origin"], ORIGIN);
        let methods = headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.contains("POST"), "{methods}");
    }
    let stranger = get(
        &service,
        "/api/v1/ping",
        &[("origin", "https://evil.example")],
    )
    .await;
    assert!(
        !stranger
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test]
async fn responses_have_security_and_cache_headers_and_no_server_name() {
    let service = Service::start(Backend::Sqlite).await;
    for (path, cache, policy) in [
        ("/api/v1/ping", Some("no-store"), false),
        ("/no/such/thing", Some("no-store"), false),
        ("/docs/", None, true),
    ] {
        let answer = get(&service, path, &[]).await;
        let headers = answer.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let kept = headers.get("cache-control").and_then(|v| v.to_str().ok());
        assert_eq!(kept, cache, "{path}");
        assert_eq!(
            headers.contains_key("content-security-policy"),
            policy,
            "{path}"
        );
        for leak in [
            "server",
            "server-timing",
            "x-powered-by",
            "strict-transport-security",
        ] {
            assert!(!headers.contains_key(leak), "{path}: {leak}");
        }
    }
}

#[tokio::test]
async fn server_timing_is_sent_only_if_enabled() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__SERVER_TIMING", "true")
        .start()
        .await;
    let before = std::time::Instant::now();
    let answer = get(&service, "/api/v1/ping", &[]).await;
    let longest = before.elapsed().as_secs_f64() * 1e3;
    let timing = answer.headers()["server-timing"].to_str().unwrap();
    let millis: f64 = timing.strip_prefix("app;dur=").unwrap().parse().unwrap();
    assert!(millis > 0.0 && millis < longest, "{timing} of {longest} ms");
}

/// The content security policy of the documentation page permits all its resources.
#[tokio::test]
async fn the_documentation_page_satisfies_its_policy() {
    let service = Service::start(Backend::Sqlite).await;
    let page = get(&service, "/docs/", &[]).await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self';"), "{policy}");
    let page = page.text().await.unwrap();
    for script in page.split("<script").skip(1) {
        let (tag, rest) = script.split_once('>').unwrap();
        assert!(tag.contains("src=\"./"), "an inline script: {tag}");
        assert!(rest.trim_start().starts_with("</script>"), "{rest}");
    }
    assert!(!page.contains(" onload="), "{page}");
}

#[tokio::test]
async fn large_responses_are_compressed_and_encodings_cause_no_406() {
    let service = Service::start(Backend::Sqlite).await;
    let large = "/openapi.json";
    for coding in ["gzip", "br", "zstd"] {
        let answer = get(&service, large, &[("accept-encoding", coding)]).await;
        assert_eq!(answer.headers()["content-encoding"], coding);
        let vary = answer.headers()["vary"].to_str().unwrap().to_lowercase();
        assert!(vary.contains("accept-encoding"), "{vary}");
    }
    for refusing in ["identity;q=0", "*;q=0", "gzip;q=0, identity;q=0"] {
        let answer = get(&service, large, &[("accept-encoding", refusing)]).await;
        assert_eq!(answer.status(), 200, "{refusing}");
    }
    let small = get(&service, "/api/v1/ping", &[("accept-encoding", "gzip")]).await;
    assert!(!small.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn untrusted_forwarding_headers_are_counted_and_logged_once() {
    let service = Service::start(Backend::Sqlite).await;
    for spoofed in ["1.2.3.4", "5.6.7.8", "9.9.9.9"] {
        let answer = get(&service, "/api/v1/ping", &[("x-forwarded-for", spoofed)]).await;
        assert_eq!(answer.status(), 200);
    }
    let metrics = service.metrics().await;
    let counted = metrics.get("client_address_untrusted_forwarded_total", &[]);
    assert_eq!(counted, Some(3.0));
    let requests = eventually("three request lines", async || {
        let lines = service.logs().into_iter();
        let lines: Vec<Value> = lines
            .filter(|line| line["route"] == "/api/v1/ping")
            .collect();
        (lines.len() == 3).then_some(lines)
    })
    .await;
    for line in requests {
        assert_eq!(line["client_address"], "127.0.0.1");
    }
    let warned = service.logs().into_iter().filter(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "warn" && message.contains("http.trusted_proxies")
    });
    assert_eq!(warned.count(), 1);
}

fn behind_a_proxy(header: &str) -> crate::support::Builder {
    Service::builder(Backend::Sqlite)
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
        .env("APP__HTTP__CLIENT_ADDRESS_HEADER", header)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", "0.01")
        .env("APP__RATE_LIMIT__DEFAULT__BURST", "1")
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_bucket() {
    let service = behind_a_proxy("x-forwarded-for").start().await;
    for (value, expected) in [
        ("203.0.113.1", 200),
        ("6.6.6.6, 203.0.113.1", 429),
        ("::ffff:203.0.113.1", 429),
    ] {
        let answer = get(&service, "/api/v1/ping", &[("x-forwarded-for", value)]).await;
        assert_eq!(answer.status(), expected, "{value}");
    }
    let service = behind_a_proxy("forwarded").start().await;
    for (value, expected) in [
        ("for=203.0.113.2;proto=https", 200),
        ("for=\"203.0.113.2:4711\"", 429),
        ("for=6.6.6.6;by=\"_a, for=7.7.7.7\", for=203.0.113.2", 429),
        ("for=\"[2001:db8::1]\"", 200),
        ("for=\"[2001:db8::2]:1\"", 429),
        ("for=203.0.113.3;ext=\"a, for=203.0.113.4\"", 200),
        ("for=203.0.113.3", 429),
    ] {
        let answer = get(&service, "/api/v1/ping", &[("forwarded", value)]).await;
        assert_eq!(answer.status(), expected, "{value}");
    }
}

/// The proxy sets one of the headers and forwards the other one unchanged.
#[tokio::test]
async fn the_other_forwarding_header_is_ignored() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let (xff, fwd) = ("x-forwarded-for", "forwarded");
    for (header, real, other) in [
        (xff, "203.0.113.1", (fwd, ["for=127.0.0.2", "for=9.9.9.9"])),
        (fwd, "for=203.0.113.1", (xff, ["127.0.0.2", "9.9.9.9"])),
    ] {
        let service = behind_a_proxy(header).start().await;
        let mut statuses = Vec::new();
        for forged in other.1 {
            let headers = [
                (header, real),
                (other.0, forged),
                ("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01")),
            ];
            let answer = get(&service, "/api/v1/ping", &headers).await;
            let trace = answer.headers()["traceresponse"].to_str().unwrap();
            assert!(!trace.contains(TRACE), "{header}: a stranger's trace");
            statuses.push(answer.status().as_u16());
        }
        assert_eq!(statuses, [200, 429], "{header}: one client, one bucket");
        let lines = eventually("two request lines", async || {
            let mut lines = service.logs();
            lines.retain(|line| line["route"] == "/api/v1/ping");
            (lines.len() == 2).then_some(lines)
        })
        .await;
        for line in lines {
            assert_eq!(line["client_address"], "203.0.113.1", "{header}");
        }
        // A misconfigured proxy: the configured header is missing.
        get(&service, "/api/v1/ping", &[(other.0, other.1[1])]).await;
        let metrics = service.metrics().await;
        for (name, expected) in [
            ("client_address_ignored_header_total", 3.0),
            ("client_address_unreadable_total", 1.0),
            ("client_address_untrusted_forwarded_total", 0.0),
        ] {
            assert_eq!(metrics.get(name, &[]), Some(expected), "{header}: {name}");
        }
        let warned = eventually("a line about the header", async || {
            let mut lines = service.logs();
            lines.retain(|line| {
                let message = line["message"].as_str().unwrap_or_default();
                message.contains("http.client_address_header") && line["header"] == header
            });
            (!lines.is_empty()).then_some(lines)
        });
        assert_eq!(warned.await.len(), 1, "{header}");
    }
}
