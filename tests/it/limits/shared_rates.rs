//! Rate limits shared by several processes.

use std::time::Instant;

use futures_util::future::join_all;

use super::redis_server::{RedisServer, common_url};
use super::{limited, ping, ping_status};
use crate::support::{Builder, Service, eventually};

/// A service that shares its buckets under a name of its own. The deadline is generous because slow
/// servers are tested elsewhere.
fn sharing(url: &str, name: &str, per_second: &str, burst: &str) -> Builder {
    limited(per_second, burst)
        .env("APP__RATE_LIMIT__BACKEND", "redis")
        .env("APP__RATE_LIMIT__REDIS_URL", url)
        .env("APP__RATE_LIMIT__REDIS_PREFIX", name)
        .env("APP__RATE_LIMIT__REDIS_TIMEOUT", "1s")
}

fn name() -> String {
    format!("test:{}", uuid::Uuid::now_v7().simple())
}

#[tokio::test]
async fn three_processes_share_the_configured_rate() {
    let (url, name) = (common_url(), name());
    let start = || sharing(&url, &name, "5", "20").start();
    let services: [Service; 3] = [start().await, start().await, start().await];
    let began = Instant::now();
    let asked = services.iter().map(async |service| {
        let mut passed = 0_u32;
        for _ in 0..40 {
            passed += u32::from(ping_status(service, "192.0.2.1").await == 200);
        }
        passed
    });
    let passed: u32 = join_all(asked).await.into_iter().sum();
    let at_most = 20.0 + 5.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!((20.0..=at_most).contains(&f64::from(passed)), "{passed}");
    for service in &services {
        let metrics = service.metrics().await;
        assert_eq!(metrics.get("rate_limit_backend_up", &[]), Some(1.0));
        let decisions = metrics.sum("rate_limit_decisions_total", &[("limiter", "address")]);
        assert_eq!(decisions, 40.0);
        assert!(metrics.sum("rate_limit_backend_seconds_count", &[]) >= 40.0);
    }
    // Another client has its own bucket, which all processes share.
    assert_eq!(ping_status(&services[0], "192.0.2.2").await, 200);
}

#[tokio::test]
async fn shared_and_local_refusals_are_equal() {
    let service = sharing(&common_url(), &name(), "0.2", "1").start().await;
    assert_eq!(ping_status(&service, "192.0.2.1").await, 200);
    let refused = ping(&service, "192.0.2.1").await;
    assert_eq!(refused.status(), 429);
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    let wait: u64 = header("retry-after").parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(header("ratelimit"), format!("\"address\";r=0;t={wait}"));
    assert_eq!(header("ratelimit-policy"), "\"address\";q=1;w=5");
    let body: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(body["code"], "RATE_LIMITED");
}

#[tokio::test]
async fn buckets_survive_a_restart_of_the_process() {
    let (url, name) = (common_url(), name());
    let first = sharing(&url, &name, "0.01", "1").start().await;
    assert_eq!(ping_status(&first, "192.0.2.1").await, 200);
    drop(first);
    let second = sharing(&url, &name, "0.01", "1").start().await;
    assert_eq!(ping_status(&second, "192.0.2.1").await, 429);
}

#[tokio::test]
async fn the_check_subcommand_tests_redis_without_showing_its_password() {
    let mut server = RedisServer::start().await;
    let check = async |url: String| {
        let check = sharing(&url, "check", "1", "1").env("APP__DATABASE__MIGRATE_ON_START", "true");
        let mut process = check.arguments(&["check"]).spawn().await;
        process.wait().await;
        [process.stdout(), process.stderr()].concat().join("\n")
    };
    assert!(!check(server.url()).await.contains("redis"));
    server.kill();
    let url = server.url().replace("//", "//user:hunter22@");
    let said = check(url).await;
    assert!(said.contains("redis: "), "{said}");
    assert!(!said.contains("hunter22"), "{said}");
}

#[tokio::test]
async fn a_start_without_redis_uses_local_limits() {
    let mut server = RedisServer::start().await;
    server.kill();
    let service = sharing(&server.url(), "absent", "0.01", "1").start().await;
    assert_eq!(ping_status(&service, "192.0.2.1").await, 200);
    assert_eq!(ping_status(&service, "192.0.2.1").await, 429);
    let metrics = service.metrics().await;
    assert_eq!(metrics.get("rate_limit_backend_up", &[]), Some(0.0));
    let health = service.client.get(service.admin("/health/ready"));
    let health: serde_json::Value = health.send().await.unwrap().json().await.unwrap();
    assert_eq!(health["checks"]["redis"]["up"], false);
    // The server is used when it becomes available.
    server.restart().await;
    eventually("the backend is up", async || {
        let up = service.metrics().await.get("rate_limit_backend_up", &[]);
        (up == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(ping_status(&service, "192.0.2.1").await, 200);
    assert_eq!(ping_status(&service, "192.0.2.1").await, 429);
}

#[tokio::test]
async fn an_invalid_redis_url_fails_the_start() {
    let refused = async |name: &str, value: &str, why: &str| {
        let service = limited("1", "1").env("APP__RATE_LIMIT__BACKEND", "redis");
        let mut process = service.env(name, value).spawn().await;
        assert_eq!(process.wait().await.code(), Some(64), "{name}={value}");
        let said = process.stderr().join("\n");
        assert!(said.contains(why), "{name}={value}: {said}");
        assert!(!said.contains("hunter22"), "{said}");
    };
    let (url, rate) = (
        "APP__RATE_LIMIT__REDIS_URL",
        "APP__RATE_LIMIT__DEFAULT__PER_SECOND",
    );
    refused(
        "APP__RATE_LIMIT__MAX_KEYS",
        "1",
        "needs rate_limit.redis_url",
    )
    .await;
    refused(
        url,
        "http://:hunter22@a",
        "is not the URL of a Redis server",
    )
    .await;
    refused(rate, "1e-9", "takes more than 30 days").await;
    refused(rate, "1e-300", "takes more than 30 days").await;
    refused("APP__RATE_LIMIT__REDIS_TIMEOUT", "0s", "longer than zero").await;
}
