//! Schema changes under the prepared statements of a running service.

use reqwest::StatusCode;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use super::database_outages::assert_serving;
use super::database_refusals::{discarded_sessions, write};
use crate::ledger::client::{Client, transfer};
use crate::support::{Backend, Service};

/// Runs reads, single statements and transactions, four at a time, so that every session has
/// prepared them. None may fail.
async fn every_query_works(client: &Client, account: &str, name: &str) {
    let read = || client.get("/api/v1/accounts");
    let me = || client.get("/api/v1/users/me");
    let answers = tokio::join!(read(), me(), read(), me());
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let change = client.request("PATCH", "/api/v1/users/me");
    let changed = change.json(&json!({ "name": name })).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(write(client).await.status(), StatusCode::CREATED);
    let order = transfer(account, account, 1);
    let refused = client.post("/api/v1/transfers", &order).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let transfers = client.get("/api/v1/transfers").await;
    assert_eq!(transfers.status(), StatusCode::OK);
    assert_serving(client).await;
}

async fn execute(url: &str, backend: Backend, statement: &'static str) {
    match backend {
        Backend::Sqlite => {
            let mut other = SqliteConnection::connect(url).await.unwrap();
            other.execute(statement).await.unwrap();
        }
        Backend::Postgres => {
            let mut other = PgConnection::connect(url).await.unwrap();
            other.execute(statement).await.unwrap();
        }
    }
}

async fn service_with_changes(backend: Backend, statements: &[&'static str]) -> Service {
    let service = Service::builder(backend)
        .env("APP__DATABASE__MAX_CONNECTIONS", "4")
        .start()
        .await;
    let client = Client::register(&service, "ada").await;
    let account = client.open("EUR").await;
    every_query_works(&client, &account, "Ada 0").await;
    for (round, statement) in statements.iter().enumerate() {
        execute(service.database.url(), backend, statement).await;
        every_query_works(&client, &account, &format!("Ada {}", round + 1)).await;
    }
    service
}

#[tokio::test]
async fn a_changed_column_type_on_postgres_fails_no_request() {
    let service = service_with_changes(
        Backend::Postgres,
        &[
            "ALTER TABLE accounts ALTER COLUMN name TYPE VARCHAR(200)",
            "ALTER TABLE users ALTER COLUMN name TYPE VARCHAR(200)",
            "ALTER TABLE transfers ALTER COLUMN reference TYPE VARCHAR(400)",
            "ALTER TABLE accounts ALTER COLUMN name TYPE TEXT",
        ],
    )
    .await;
    assert!(discarded_sessions(&service, "stale_plan").await >= 3.0);
}

#[tokio::test]
async fn a_changed_table_on_sqlite_fails_no_request() {
    service_with_changes(
        Backend::Sqlite,
        &[
            "ALTER TABLE accounts ADD COLUMN note TEXT",
            "ALTER TABLE users ADD COLUMN note TEXT",
            "CREATE INDEX accounts_name_index ON accounts (name)",
        ],
    )
    .await;
}
