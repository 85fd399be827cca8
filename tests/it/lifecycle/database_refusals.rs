//! A database that answers but refuses: read-only, or access denied.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use super::database_outages::{assert_refusal, assert_refused, assert_serving, wait_for_readiness};
use crate::ledger::client::Client;
use crate::support::{Backend, Builder, PostgresServer, Service, eventually};

/// A server with a separate role and database for the service.
struct RestrictedDatabase {
    server: PostgresServer,
    admin: sqlx::PgConnection,
}

impl RestrictedDatabase {
    async fn start() -> Self {
        let server = PostgresServer::start().await;
        let mut admin = sqlx::PgConnection::connect(&server.url()).await.unwrap();
        // Passwords are required from now on for this role.
        let file: String = sqlx::query_scalar("SHOW hba_file")
            .fetch_one(&mut admin)
            .await
            .unwrap();
        let rules = std::fs::read_to_string(&file).unwrap();
        let rule = "host all service 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(&file, [rule, &rules].concat()).unwrap();
        let mut owned = Self { server, admin };
        for statement in [
            "SELECT pg_reload_conf()",
            "CREATE ROLE service LOGIN PASSWORD 'first'",
            "CREATE DATABASE service OWNER service",
        ] {
            owned.execute(statement).await;
        }
        owned
    }

    async fn execute(&mut self, statement: &str) {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        self.admin.execute(sqlx::raw_sql(statement)).await.unwrap();
    }

    /// Terminates the sessions of the service, so that it reconnects.
    async fn terminate_sessions(&mut self) {
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                   WHERE datname = 'service'";
        self.execute(end).await;
    }

    fn service(&self) -> Builder {
        let url = self.server.url();
        let (_, place) = url.split_once('@').unwrap();
        let place = place.rsplit_once('/').unwrap().0;
        Service::builder(Backend::Sqlite)
            .env(
                "APP__DATABASE__URL",
                format!("postgres://service:first@{place}/service"),
            )
            .env("APP__DATABASE__ACQUIRE_TIMEOUT", "1s")
            .env("APP__DATABASE__STATEMENT_TIMEOUT", "1s")
            .env("APP__DATABASE__MAX_CONNECTIONS", "4")
    }
}

pub(super) async fn write(client: &Client) -> reqwest::Response {
    let account = json!({"currency": "EUR", "name": "Spending"});
    client.post("/api/v1/accounts", &account).await
}

/// Writes until a write succeeds. Returns the number of failures.
pub(super) async fn failures_until_first_write(client: &Client) -> u32 {
    let began = Instant::now();
    for failed in 0.. {
        let answer = write(client).await;
        if answer.status() == StatusCode::CREATED {
            let took = began.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
            return failed;
        }
        assert_refusal(answer).await;
    }
    unreachable!("it ends with a success or a panic");
}

pub(super) async fn discarded_sessions(service: &Service, reason: &str) -> f64 {
    let metrics = service.metrics().await;
    let name = "db_connections_discarded_total";
    metrics.get(name, &[("reason", reason)]).unwrap()
}

#[tokio::test]
async fn writes_succeed_again_after_a_read_only_phase() {
    let mut owned = RestrictedDatabase::start().await;
    // Four sessions are opened at once, which takes longer on a busy machine.
    let service = owned.service().env("APP__DATABASE__ACQUIRE_TIMEOUT", "5s");
    let service = service.start().await;
    let client = Client::register(&service, "ada").await;
    assert_eq!(write(&client).await.status(), StatusCode::CREATED);
    assert_eq!(discarded_sessions(&service, "read_only").await, 0.0);
    owned
        .execute("ALTER DATABASE service SET default_transaction_read_only = on")
        .await;
    owned.terminate_sessions().await;
    wait_for_readiness(&service, false, Duration::from_secs(5)).await;
    let answer = service.client.get(service.admin("/health/ready?verbose"));
    let output = answer.send().await.unwrap().text().await.unwrap();
    assert!(
        output.contains("the database cannot be written"),
        "{output}"
    );
    for _ in 0..4 {
        assert_refusal(write(&client).await).await;
        assert_eq!(client.get("/api/v1/accounts").await.status(), 200);
    }
    assert!(discarded_sessions(&service, "read_only").await >= 4.0);
    // Four concurrent sessions, which stay open and read-only.
    let ask = || client.get("/api/v1/accounts");
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!(answers.0.status(), 200);
    owned
        .execute("ALTER DATABASE service RESET default_transaction_read_only")
        .await;
    let failed = failures_until_first_write(&client).await;
    assert!(failed <= 1, "one session tells for all, not {failed}");
    assert_eq!(failures_until_first_write(&client).await, 0);
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert_serving(&client).await;
}

#[tokio::test]
async fn a_terminated_session_fails_one_request() {
    let mut owned = RestrictedDatabase::start().await;
    let service = owned.service().start().await;
    let client = Client::register(&service, "ada").await;
    for _ in 0..3 {
        let ask = || client.get("/api/v1/accounts");
        tokio::join!(ask(), ask(), ask(), ask());
        owned.terminate_sessions().await;
        let failed = failures_until_first_write(&client).await;
        assert!(failed <= 1, "{failed} requests paid for one cut");
        assert_serving(&client).await;
    }
    assert!(discarded_sessions(&service, "lost").await >= 1.0);
}

#[tokio::test]
async fn a_service_without_access_recovers_when_access_is_granted() {
    let mut owned = RestrictedDatabase::start().await;
    let mut service = owned.service().start().await;
    let client = Client::register(&service, "ada").await;
    for (refuse, admit) in [
        // SQLSTATE 28P01, 53300, 28000, 55000, 42501.
        (
            "ALTER ROLE service PASSWORD 'second'",
            "ALTER ROLE service PASSWORD 'first'",
        ),
        (
            "ALTER ROLE service CONNECTION LIMIT 0",
            "ALTER ROLE service CONNECTION LIMIT -1",
        ),
        ("ALTER ROLE service NOLOGIN", "ALTER ROLE service LOGIN"),
        (
            "ALTER DATABASE service ALLOW_CONNECTIONS false",
            "ALTER DATABASE service ALLOW_CONNECTIONS true",
        ),
        (
            "REVOKE CONNECT ON DATABASE service FROM PUBLIC, service",
            "GRANT CONNECT ON DATABASE service TO service",
        ),
    ] {
        owned.execute(refuse).await;
        owned.terminate_sessions().await;
        assert_refused(&client).await;
        assert_refusal(write(&client).await).await;
        wait_for_readiness(&service, false, Duration::from_secs(5)).await;
        assert_refusal(write(&client).await).await;
        owned.execute(admit).await;
        failures_until_first_write(&client).await;
        assert_serving(&client).await;
        wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    }
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn a_start_waits_for_a_writable_server() {
    let mut owned = RestrictedDatabase::start().await;
    owned
        .execute("ALTER DATABASE service SET default_transaction_read_only = on")
        .await;
    let mut service = owned.service().spawn().await;
    eventually("it says what it waits for", async || {
        let logs = service.logs();
        let output = logs
            .iter()
            .any(|line| line.to_string().contains("the migrations wait"));
        output.then_some(())
    })
    .await;
    owned
        .execute("ALTER DATABASE service RESET default_transaction_read_only")
        .await;
    service.wait_ready().await;
    let client = Client::register(&service, "ada").await;
    assert_eq!(write(&client).await.status(), StatusCode::CREATED);
}
