//! Background workers: single replica, backoff, heartbeat, drain.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::on_both;
use crate::support::{Backend, Service, TestDatabase, eventually};

async fn runs(service: &Service, outcome: &str) -> f64 {
    let labels = [("worker", "cleanup"), ("outcome", outcome)];
    let metrics = service.metrics().await;
    metrics
        .get("worker_runs_total", &labels)
        .expect("born at zero")
}

async fn wait_for_runs(service: &Service, outcome: &str, more_than: f64) {
    eventually(&format!("runs with outcome {outcome}"), async || {
        (runs(service, outcome).await > more_than).then_some(())
    })
    .await;
}

on_both! {
    async fn the_cleanup_runs_and_its_heartbeat_is_not_critical(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__WORKERS__CLEANUP_INTERVAL", "50ms")
            .start()
            .await;
        wait_for_runs(&service, "ok", 3.0).await;
        let url = service.admin("/health/ready?verbose");
        let body: Value = service.client.get(url).send().await.unwrap().json().await.unwrap();
        let check = &body["checks"]["worker_cleanup"];
        assert_eq!((&check["up"], &check["critical"]), (&true.into(), &false.into()), "{body}");
    }
}

/// Locks the table that the cleanup writes to.
async fn lock_table(database: &TestDatabase) -> PgConnection {
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE refresh_tokens IN ACCESS EXCLUSIVE MODE";
    other.execute(sqlx::raw_sql(lock)).await.unwrap();
    other
}

#[tokio::test]
async fn replicas_take_turns_in_running_the_cleanup() {
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let start = async || {
        Service::builder(Backend::Postgres)
            .database(&database)
            .env("APP__WORKERS__CLEANUP_INTERVAL", "100ms")
            .env("APP__DATABASE__STATEMENT_TIMEOUT", "1m")
            .start()
            .await
    };
    let (one, two) = (start().await, start().await);
    let mut other = lock_table(&database).await;
    // In a separate session, because statistics are frozen within a transaction.
    let mut watch = PgConnection::connect(database.url()).await.unwrap();
    eventually("one of them is in a run", async || {
        let query = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                     WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()";
        let turns: i64 = sqlx::query_scalar(query).fetch_one(&mut watch).await.unwrap();
        (turns == 1).then_some(())
    })
    .await;
    let before = (runs(&one, "skipped").await, runs(&two, "skipped").await);
    eventually(
        "the other one is told to wait on every attempt",
        async || {
            let more = (
                runs(&one, "skipped").await - before.0,
                runs(&two, "skipped").await - before.1,
            );
            assert!(
                more.0 == 0.0 || more.1 == 0.0,
                "only one of them waits: {more:?}"
            );
            (more.0 + more.1 >= 3.0).then_some(())
        },
    )
    .await;
    other.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    wait_for_runs(&one, "ok", runs(&one, "ok").await).await;
    wait_for_runs(&two, "ok", runs(&two, "ok").await).await;
}

#[tokio::test]
async fn failed_runs_are_retried_with_backoff_and_reported() {
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let service = Service::builder(Backend::Postgres)
        .database(&database)
        .env("APP__WORKERS__CLEANUP_INTERVAL", "20ms")
        .env("APP__DATABASE__STATEMENT_TIMEOUT", "100ms")
        .start()
        .await;
    wait_for_runs(&service, "ok", 0.0).await;
    let mut other = lock_table(&database).await;
    wait_for_runs(&service, "failed", 0.0).await;
    eventually("the heartbeat says so", async || {
        let url = service.admin("/health/ready");
        let answer = service.client.get(url).send().await.ok()?;
        assert_eq!(
            answer.status(),
            200,
            "a worker is no reason to take requests away"
        );
        let body: Value = answer.json().await.ok()?;
        let error = body["checks"]["worker_cleanup"]["last_error"]
            .as_str()?
            .to_owned();
        (error == "the last run failed").then_some(())
    })
    .await;
    // At an interval of 20 ms there would be dozens of runs.
    wait_for_runs(&service, "failed", 1.0).await;
    assert!(runs(&service, "failed").await <= 4.0);
    other.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    wait_for_runs(&service, "ok", runs(&service, "ok").await).await;
}

#[tokio::test]
async fn a_worker_that_cannot_stop_is_cut_by_name() {
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let mut service = Service::builder(Backend::Postgres)
        .database(&database)
        .env("APP__WORKERS__CLEANUP_INTERVAL", "20ms")
        .env("APP__DATABASE__STATEMENT_TIMEOUT", "1m")
        .env("APP__LIFECYCLE__GRACE_PERIOD", "300ms")
        .start()
        .await;
    let _other = lock_table(&database).await;
    let ended = runs(&service, "ok").await;
    tokio::time::timeout(Duration::from_secs(10), async {
        let mut watch = PgConnection::connect(database.url()).await.unwrap();
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(query).fetch_one(&mut watch).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a run waits for the table");
    assert!(runs(&service, "ok").await >= ended);
    assert_eq!(service.terminate().await, Some(70));
    let logs = service.logs();
    let cut = logs
        .iter()
        .find(|line| line["message"] == "cut: it outlived the grace period");
    let cut = cut.expect("a line that names it");
    assert_eq!(
        (&cut["kind"], &cut["name"]),
        (&"worker".into(), &"cleanup".into())
    );
}

/// Inserts expired refresh tokens.
async fn expired_tokens(connection: &mut PgConnection, count: i32) {
    let user = "INSERT INTO refresh_families (id, user_id, created_at, expires_at)
                SELECT gen_random_uuid(), id, now() - interval '2 days', now() + interval '1 day'
                FROM users LIMIT 1 RETURNING id";
    let family: sqlx::types::Uuid = sqlx::query_scalar(user)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let tokens = "INSERT INTO refresh_tokens (token_hash, family_id, issued_at, expires_at)
                  SELECT sha256(n::text::bytea), $1, now() - interval '2 days', now() - interval '1 day'
                  FROM generate_series(1, $2) n";
    sqlx::query(tokens)
        .bind(family)
        .bind(count)
        .execute(connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_drain_ends_the_cleanup_after_its_current_batch() {
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let start = async || {
        Service::builder(Backend::Postgres)
            .database(&database)
            .env("APP__WORKERS__CLEANUP_INTERVAL", "50ms")
            .env("APP__DATABASE__STATEMENT_TIMEOUT", "1m")
            .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
            .start()
            .await
    };
    let mut service = start().await;
    let mut other = lock_table(&database).await;
    let mut watch = PgConnection::connect(database.url()).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a batch waits for the table", async || {
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&mut watch)
            .await
            .unwrap();
        (waiting == 1).then_some(())
    })
    .await;
    // The waiting statement sees this row because it reads after it has the lock.
    expired_tokens(&mut other, 5_000).await;
    service.signal("TERM");
    eventually("the drain has come to the workers", async || {
        let metrics = service.metrics().await;
        (metrics.get("lifecycle_state", &[("state", "stopping")]) == Some(1.0)).then_some(())
    })
    .await;
    other.execute(sqlx::raw_sql("COMMIT")).await.unwrap();
    assert_eq!(
        service.wait().await.code(),
        Some(0),
        "a safe point is no cut"
    );
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM refresh_tokens")
        .fetch_one(&mut watch)
        .await
        .unwrap();
    assert!(
        (4_500..=5_000).contains(&left),
        "{left} are left for the next one"
    );
}
