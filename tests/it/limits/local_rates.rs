//! Rate limits of a single process.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{limited, ping, ping_status};
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};

#[tokio::test]
async fn a_flood_is_limited_to_the_rate_and_one_burst() {
    let service = limited("10", "5").start().await;
    let began = Instant::now();
    let mut passed = 0_u32;
    while began.elapsed() < Duration::from_secs(2) {
        passed += u32::from(ping_status(&service, "192.0.2.1").await == 200);
    }
    let at_most = 5.0 + 10.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(f64::from(passed) <= at_most, "{passed} of {at_most}");
    // Only a pause of half a second between two requests refills enough tokens to fail the test.
    assert!(passed >= 15, "{passed}");
}

#[tokio::test]
async fn new_clients_share_a_bucket_when_the_table_is_full() {
    let service = limited("0.01", "2")
        .env("APP__RATE_LIMIT__MAX_KEYS", "50")
        .start()
        .await;
    for client in 0..50 {
        let address = format!("198.51.100.{client}");
        assert_eq!(ping_status(&service, &address).await, 200);
    }
    let mut strangers = Vec::new();
    for client in 0..40 {
        strangers.push(ping_status(&service, &format!("203.0.113.{client}")).await);
    }
    let passed = strangers.iter().filter(|status| **status == 200).count();
    assert_eq!(passed, 2, "one burst for all of them: {strangers:?}");
    // Clients in the table keep their own buckets.
    assert_eq!(ping_status(&service, "198.51.100.7").await, 200);
    assert_eq!(ping_status(&service, "198.51.100.7").await, 429);
    assert_eq!(ping_status(&service, "198.51.100.8").await, 200);
    let metrics = service.metrics().await;
    let keys = metrics.get("rate_limit_keys", &[("limiter", "address")]);
    assert_eq!(keys, Some(50.0));
    assert_eq!(metrics.get("rate_limit_backend_up", &[]), Some(1.0));
}

#[tokio::test]
async fn an_ipv6_prefix_of_64_bits_is_one_client() {
    let service = limited("0.01", "2").start().await;
    assert_eq!(ping_status(&service, "2001:db8:0:1::1").await, 200);
    assert_eq!(ping_status(&service, "2001:db8:0:1:ffff::1").await, 200);
    assert_eq!(ping_status(&service, "2001:db8:0:1:2:3:4:5").await, 429);
    assert_eq!(ping_status(&service, "2001:db8:0:2::1").await, 200);
    assert_eq!(ping_status(&service, "192.0.2.9").await, 200);
    assert_eq!(ping_status(&service, "::ffff:192.0.2.9").await, 200);
    assert_eq!(ping_status(&service, "192.0.2.9").await, 429);
}

#[tokio::test]
async fn preflights_are_not_limited_and_refusals_have_cors_headers() {
    let origin = "https://app.example";
    let service = limited("0.01", "1")
        .env("APP__HTTP__CORS__ALLOWED_ORIGINS", origin)
        .start()
        .await;
    for _ in 0..10 {
        let preflight = service
            .client
            .request(reqwest::Method::OPTIONS, service.url("/api/v1/ping"))
            .header("origin", origin)
            .header("access-control-request-method", "GET");
        assert_eq!(preflight.send().await.unwrap().status(), 200);
    }
    let request = || {
        let request = service.client.get(service.url("/api/v1/ping"));
        request.header("origin", origin).send()
    };
    assert_eq!(request().await.unwrap().status(), 200);
    let refused = request().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["access-control-allow-origin"], origin);
}

#[tokio::test]
async fn a_user_is_limited_across_addresses() {
    let service = limited("0.01", "3").start().await;
    let login = service
        .client
        .post(service.url("/api/v1/auth/login"))
        .json(&json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}));
    let tokens: Value = login.send().await.unwrap().json().await.unwrap();
    let token = tokens["access_token"].as_str().unwrap();
    let mut answers = Vec::new();
    for client in 0..4 {
        let request = service
            .client
            .get(service.url("/api/v1/users/me"))
            .header("x-forwarded-for", format!("192.0.2.{client}"))
            .bearer_auth(token);
        answers.push(request.send().await.unwrap());
    }
    let statuses: Vec<u16> = answers.iter().map(|a| a.status().as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(
        answers[3].headers()["ratelimit-policy"],
        "\"principal\";q=3;w=300"
    );
}

#[tokio::test]
async fn a_refusal_has_both_retry_headers() {
    let service = limited("0.2", "1").start().await;
    assert_eq!(ping_status(&service, "192.0.2.1").await, 200);
    let refused = ping(&service, "192.0.2.1").await;
    assert_eq!(refused.status(), 429);
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    let wait: u64 = header("retry-after").parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(header("ratelimit"), format!("\"address\";r=0;t={wait}"));
    assert_eq!(header("ratelimit-policy"), "\"address\";q=1;w=5");
}
