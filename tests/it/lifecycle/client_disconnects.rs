//! Disconnecting clients: their requests finish or are rolled back, and nothing keeps running.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::AsyncWriteExt as _;

use crate::ledger::client::{Client, transfer};
use crate::support::{Backend, Service, eventually};

/// Number of queries of the service that wait for a lock. Must not be called within a transaction,
/// which freezes the statistics.
async fn waiting_queries(connection: &mut PgConnection) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND state <> 'idle' AND wait_event_type = 'Lock'";
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Sends a transfer without reading the response.
async fn send_transfer(
    service: &Service,
    client: &Client,
    transfer: &Value,
) -> tokio::net::TcpStream {
    let body = transfer.to_string();
    let request = client.request("POST", "/api/v1/transfers").build().unwrap();
    let token = request.headers()["authorization"].to_str().unwrap();
    let mut stream = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    let head = format!(
        "POST /api/v1/transfers HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_disconnect_cancels_the_query_and_rolls_back() {
    let service = Service::builder(Backend::Postgres)
        .env("APP__DATABASE__MAX_CONNECTIONS", "2")
        // Long enough not to end the query itself.
        .env("APP__DATABASE__STATEMENT_TIMEOUT", "2m")
        .env("APP__HTTP__REQUEST_TIMEOUT", "2m")
        .start()
        .await;
    let (admin, ada) = (
        Client::admin(&service).await,
        Client::register(&service, "ada").await,
    );
    let (from, to) = (ada.open("EUR").await, ada.open("EUR").await);
    admin.deposit(&from, 1_000).await;

    let mut other = PgConnection::connect(service.database.url()).await.unwrap();
    let mut watch = PgConnection::connect(service.database.url()).await.unwrap();
    other
        .execute(sqlx::raw_sql("BEGIN; SELECT 1 FROM accounts FOR UPDATE"))
        .await
        .unwrap();
    // More than the pool's connections, so that each must become free again.
    for _ in 0..4 {
        let client = send_transfer(&service, &ada, &transfer(&from, &to, 10)).await;
        eventually("the transfer waits for the lock", async || {
            (waiting_queries(&mut watch).await == 1).then_some(())
        })
        .await;
        drop(client);
        eventually("its query has ended", async || {
            (waiting_queries(&mut watch).await == 0).then_some(())
        })
        .await;
    }
    let metrics = service.metrics().await;
    let labels = [("path", "/api/v1/transfers"), ("status", "499")];
    assert_eq!(metrics.get("http_requests_total", &labels), Some(4.0));

    other.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    let answer = ada
        .post("/api/v1/transfers", &transfer(&from, &to, 10))
        .await;
    assert_eq!(answer.status(), 201);
    let listed: Value = ada.get("/api/v1/transfers").await.json().await.unwrap();
    // The deposit and the single completed transfer.
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(
        (ada.balance(&from).await, ada.balance(&to).await),
        (990, 10)
    );
}

#[tokio::test]
async fn a_deadline_cancels_the_query() {
    let service = Service::builder(Backend::Postgres)
        .env("APP__DATABASE__STATEMENT_TIMEOUT", "2m")
        .env("APP__HTTP__REQUEST_TIMEOUT", "2s")
        .start()
        .await;
    let ada = Client::register(&service, "ada").await;
    let mut other = PgConnection::connect(service.database.url()).await.unwrap();
    let mut watch = PgConnection::connect(service.database.url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE";
    other.execute(sqlx::raw_sql(lock)).await.unwrap();
    let ask = tokio::spawn(async move { ada.get("/api/v1/accounts").await });
    eventually("the request waits for the lock", async || {
        (waiting_queries(&mut watch).await == 1).then_some(())
    })
    .await;
    let answer = ask.await.unwrap();
    assert_eq!(answer.status(), 503);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["code"], "DEADLINE_EXCEEDED");
    let began = std::time::Instant::now();
    eventually("its query has ended", async || {
        (waiting_queries(&mut watch).await == 0).then_some(())
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

/// SQLite has one writer at a time. An abandoned write must neither block the others nor be
/// committed.
#[tokio::test]
async fn a_disconnect_while_waiting_to_write_leaves_nothing() {
    let service = Service::start(Backend::Sqlite).await;
    let (admin, ada) = (
        Client::admin(&service).await,
        Client::register(&service, "ada").await,
    );
    let (from, to) = (ada.open("EUR").await, ada.open("EUR").await);
    admin.deposit(&from, 1_000).await;
    let mut other = sqlx::SqliteConnection::connect(service.database.url())
        .await
        .unwrap();
    other
        .execute(sqlx::raw_sql("BEGIN IMMEDIATE"))
        .await
        .unwrap();
    for gone in 1..=3 {
        let client = send_transfer(&service, &ada, &transfer(&from, &to, 10)).await;
        super::drain::in_flight(&service, 1.0).await;
        drop(client);
        eventually("the request has ended", async || {
            let labels = [("path", "/api/v1/transfers"), ("status", "499")];
            let metrics = service.metrics().await;
            (metrics.get("http_requests_total", &labels) == Some(f64::from(gone))).then_some(())
        })
        .await;
    }
    other.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    let answer = ada
        .post("/api/v1/transfers", &transfer(&from, &to, 10))
        .await;
    assert_eq!(answer.status(), 201);
    assert_eq!(
        (ada.balance(&from).await, ada.balance(&to).await),
        (990, 10)
    );
}
