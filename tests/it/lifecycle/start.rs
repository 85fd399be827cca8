//! Start, readiness, drain, exit.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::on_both;
use crate::support::{Backend, Service, TestDatabase, eventually};

on_both! {
    async fn a_service_starts_serves_and_exits_with_zero(backend: Backend) {
        let mut service = Service::start(backend).await;
        let metrics = service.metrics().await;
        assert_eq!(metrics.get("lifecycle_state", &[("state", "ready")]), Some(1.0));
        assert_eq!(metrics.get("readiness_check_up", &[("check", "database")]), Some(1.0));
        assert_eq!(metrics.get("readiness_check_up", &[("check", "migrations")]), Some(1.0));
        assert_eq!(service.terminate().await, Some(0));
    }

    async fn several_processes_may_migrate_at_once(backend: Backend) {
        let database = std::sync::Arc::new(TestDatabase::create(backend).await);
        let mut migrating = Vec::new();
        for _ in 0..4 {
            let builder = Service::builder(backend).database(&database).arguments(&["migrate"]);
            migrating.push(builder.spawn().await);
        }
        for mut process in migrating {
            let status = process.wait().await;
            assert_eq!(status.code(), Some(0), "{:#?}", process.stderr());
        }
    }

    async fn a_service_without_migrations_is_not_ready(backend: Backend) {
        let database = std::sync::Arc::new(TestDatabase::create(backend).await);
        let mut service = Service::builder(backend)
            .database(&database)
            .env("APP__DATABASE__MIGRATE_ON_START", "false")
            .env("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", "")
            .env("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", "")
            .spawn()
            .await;
        service.wait_admin().await;
        let verdict = eventually("the migrations check", async || {
            let answer = service.client.get(service.admin("/health/ready")).send().await.ok()?;
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.ok()?;
            let error = body["checks"]["migrations"]["last_error"].as_str()?.to_owned();
            error.contains("migrate").then_some(status)
        })
        .await;
        assert_eq!(verdict, 503);
        let live = service.client.get(service.admin("/health/live")).send().await.unwrap();
        assert_eq!(live.status(), 200);
        let mut migrate =
            Service::builder(backend).database(&database).arguments(&["migrate"]).spawn().await;
        assert_eq!(migrate.wait().await.code(), Some(0));
        service.wait_ready().await;
    }
}

#[tokio::test]
async fn a_service_without_database_is_alive_and_not_ready() {
    // Bound but never accepting, so that the port stays taken.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    let mut service = Service::builder(Backend::Sqlite)
        .env(
            "APP__DATABASE__URL",
            format!("postgres://nobody@127.0.0.1:{port}/nothing"),
        )
        .env("APP__DATABASE__ACQUIRE_TIMEOUT", "200ms")
        .spawn()
        .await;
    service.wait_admin().await;
    let status = async |path: &str| {
        let answer = service.client.get(service.admin(path)).send().await;
        answer.unwrap().status().as_u16()
    };
    // The admin listener answers during the initialisation and reports it.
    eventually("the process has initialised itself", async || {
        (status("/health/startup").await == 200).then_some(())
    })
    .await;
    assert_eq!(status("/health/live").await, 200);
    assert_eq!(status("/health/ready").await, 503);
    assert_eq!(
        service.terminate().await,
        Some(0),
        "a signal ends a start that waits"
    );
}

#[tokio::test]
async fn refused_database_credentials_fail_the_start() {
    let database = TestDatabase::create(Backend::Postgres).await;
    let url = format!("{}_that_does_not_exist", database.url());
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__DATABASE__URL", url)
        .spawn()
        .await;
    assert_eq!(service.wait().await.code(), Some(1));
}

#[tokio::test]
async fn a_drain_answers_with_connection_close_and_then_refuses() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__DRAIN_DELAY", "1s")
        .start()
        .await;
    let before = service
        .client
        .get(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    assert!(!before.headers().contains_key("connection"));
    service.signal("TERM");
    eventually("readiness falls", async || {
        let answer = service
            .client
            .get(service.url("/health/ready"))
            .send()
            .await
            .ok()?;
        (answer.status() == 503).then_some(())
    })
    .await;
    let during = service
        .client
        .get(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    assert_eq!(during.status(), 200, "the drain delay still serves");
    assert_eq!(during.headers()["connection"], "close");
    let scrape = service.metrics().await;
    assert_eq!(
        scrape.get("lifecycle_state", &[("state", "draining")]),
        Some(1.0)
    );
    assert_eq!(service.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_partial_header_does_not_delay_the_exit() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .start()
        .await;
    let mut stream = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    stream
        .write_all(b"GET /api/v1/ping HTTP/1.1\r\nHost: x\r\nX-Half")
        .await
        .unwrap();
    let mut idle = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    idle.write_all(b"GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(0), "closing them is no cut");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
