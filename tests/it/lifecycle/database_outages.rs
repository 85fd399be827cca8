//! Outages of the database, and recovery.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, Executor as _};

use crate::ledger::client::Client;
use crate::support::{Backend, Builder, PostgresServer, Service, eventually};

/// Connection timeout and statement timeout in these tests.
const BOUND: Duration = Duration::from_secs(1);

fn service_on(server: &PostgresServer) -> Builder {
    Service::builder(Backend::Sqlite)
        .env("APP__DATABASE__URL", server.url())
        .env("APP__DATABASE__ACQUIRE_TIMEOUT", "1s")
        .env("APP__DATABASE__STATEMENT_TIMEOUT", "1s")
        .env("APP__DATABASE__MAX_CONNECTIONS", "4")
}

/// Sends a request that needs the database. It must be refused in time.
pub(super) async fn assert_refused(client: &Client) {
    let began = Instant::now();
    let answer = client.get("/api/v1/accounts").await;
    let took = began.elapsed();
    assert_refusal(answer).await;
    // Two seconds of tolerance for busy machines.
    assert!(took < BOUND * 2 + Duration::from_secs(2), "{took:?}");
}

/// Asserts a refusal: with `Retry-After`, without internals.
pub(super) async fn assert_refusal(answer: reqwest::Response) {
    assert_eq!(answer.status(), 503);
    let retry = answer.headers()["retry-after"].to_str().unwrap();
    assert!(retry.parse::<u32>().unwrap() >= 1, "{retry}");
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["code"], "DATABASE_UNAVAILABLE");
    for word in ["SELECT", "sqlx", "connection", "postgres", "pool"] {
        assert!(!text.contains(word), "{text}");
    }
}

async fn readiness(service: &Service) -> Option<bool> {
    let url = service.admin("/health/ready?verbose");
    let answer = service.client.get(url).send().await.ok()?;
    let status = answer.status();
    let body: Value = answer.json().await.ok()?;
    let check = &body["checks"]["database"];
    assert!(check["since"].is_string(), "{body}");
    assert_eq!(
        check["up"].as_bool().unwrap(),
        check["last_error"].is_null(),
        "{body}"
    );
    Some(status.is_success())
}

pub(super) async fn wait_for_readiness(service: &Service, wanted: bool, bound: Duration) {
    let began = Instant::now();
    eventually("readiness follows", async || {
        (readiness(service).await? == wanted).then_some(())
    })
    .await;
    assert!(began.elapsed() < bound, "{:?}", began.elapsed());
    let live = service
        .client
        .get(service.admin("/health/live"))
        .send()
        .await;
    assert_eq!(
        live.unwrap().status(),
        200,
        "liveness never asks the database"
    );
}

/// After the recovery no request fails because of broken connections.
pub(super) async fn assert_serving(client: &Client) {
    for _ in 0..20 {
        assert_eq!(client.get("/api/v1/accounts").await.status(), 200);
    }
}

#[tokio::test]
async fn a_killed_database_causes_timely_refusals_until_it_returns() {
    let mut server = PostgresServer::start().await;
    let mut service = service_on(&server).start().await;
    let client = Client::register(&service, "ada").await;
    assert_serving(&client).await;
    server.kill();
    tokio::join!(
        assert_refused(&client),
        assert_refused(&client),
        assert_refused(&client)
    );
    wait_for_readiness(&service, false, Duration::from_secs(5)).await;
    assert_refused(&client).await;
    server.restart().await;
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert_serving(&client).await;
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn a_frozen_database_causes_timely_refusals_and_frees_the_pool() {
    let server = PostgresServer::start().await;
    let mut service = service_on(&server).start().await;
    let client = Client::register(&service, "ada").await;
    assert_serving(&client).await;
    server.freeze();
    // Twice as many as the pool's connections, so that each must become free again.
    for _ in 0..2 {
        let ask = || assert_refused(&client);
        tokio::join!(ask(), ask(), ask(), ask());
    }
    wait_for_readiness(&service, false, Duration::from_secs(5)).await;
    server.thaw();
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert_serving(&client).await;
    server.freeze();
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { assert_refused(&client).await })
        })
        .collect();
    super::drain::in_flight(&service, 4.0).await;
    let began = Instant::now();
    assert_eq!(
        service.terminate().await,
        Some(0),
        "a frozen server is no reason to be cut"
    );
    for request in asked {
        request.await.unwrap();
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_exhausted_pool_causes_counted_refusals() {
    let server = PostgresServer::start().await;
    let service = service_on(&server)
        .env("APP__DATABASE__STATEMENT_TIMEOUT", "30s")
        .env("APP__HTTP__REQUEST_TIMEOUT", "1m")
        .start()
        .await;
    let client = Client::register(&service, "ada").await;
    let mut other = sqlx::PgConnection::connect(&server.url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE";
    other.execute(sqlx::raw_sql(lock)).await.unwrap();
    let held: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/api/v1/accounts").await.status() })
        })
        .collect();
    let timeouts = async || {
        let metrics = service.metrics().await;
        metrics.get("db_pool_timeouts_total", &[]).unwrap()
    };
    // The gauge of the pool is not checked, because readiness checks and user lookups also take
    // connections.
    eventually("every connection waits for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&mut other)
            .await
            .unwrap();
        (waiting == 4).then_some(())
    })
    .await;
    let before = timeouts().await;
    tokio::join!(assert_refused(&client), assert_refused(&client));
    // The readiness check also waits in vain and times out first.
    assert!(timeouts().await >= before + 2.0);
    other.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    for request in held {
        assert_eq!(request.await.unwrap(), 200, "who waits for a lock gets it");
    }
    assert_serving(&client).await;
}

#[tokio::test]
async fn a_lock_timeout_is_a_refusal_that_is_logged() {
    let server = PostgresServer::start().await;
    let service = service_on(&server).start().await;
    let client = Client::register(&service, "ada").await;
    let mut other = sqlx::PgConnection::connect(&server.url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE";
    other.execute(sqlx::raw_sql(lock)).await.unwrap();
    assert_refused(&client).await;
    eventually("the log", async || {
        let logs = service.logs();
        let output = logs
            .iter()
            .any(|line| line.to_string().contains("lock timeout"));
        output.then_some(())
    })
    .await;
    other.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    assert_serving(&client).await;
}

#[tokio::test]
async fn a_waiting_migration_is_logged_and_ends_with_a_silent_server() {
    let server = PostgresServer::start().await;
    let _migrated = service_on(&server).start().await;
    let mut other = sqlx::PgConnection::connect(&server.url()).await.unwrap();
    // The limits of the role apply to requests and not to migrations.
    let limits = "ALTER ROLE CURRENT_USER SET statement_timeout = '100ms';
                  ALTER ROLE CURRENT_USER SET lock_timeout = '100ms'";
    other.execute(sqlx::raw_sql(limits)).await.unwrap();
    let lock = "BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE";
    other.execute(sqlx::raw_sql(lock)).await.unwrap();
    let mut migrate = service_on(&server).arguments(&["migrate"]).spawn().await;
    eventually("it tells", async || {
        let output = migrate.stderr().join("\n");
        output
            .contains("waiting for another migrator's lock")
            .then_some(())
    })
    .await;
    server.freeze();
    let ended = tokio::time::timeout(Duration::from_secs(15), migrate.wait());
    assert_eq!(ended.await.expect("bounded").code(), Some(1));
    let output = migrate.stderr().join("\n");
    assert!(output.contains("did not answer within 1s"), "{output}");
    server.thaw();
}
