//! An account with many concurrent payments.

use std::sync::Arc;
use std::time::Duration;

use settings::clock::new_id;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Fixture, payment};
use crate::support::{Backend, TestDatabase, eventually};

/// More than the connections of the pool.
const CROWD: usize = 30;

/// On SQLite, writers queue before they take a connection (`crates/db/src/writer.rs`).
#[tokio::test]
async fn transfers_waiting_for_one_account_do_not_exhaust_the_pool() {
    let kept = TestDatabase::create(Backend::Postgres).await;
    let url = kept.url().to_owned();
    let ledger = Arc::new(Fixture::reached_by(kept, url.clone()).await);
    let (rich, other) = (new_id(), new_id());
    let hot = ledger.open_with(rich, "EUR", 10_000).await;
    let from = ledger.open_with(other, "EUR", 10_000).await;
    let to = ledger.open(other, "EUR").await;

    // Another session holds the row of the account.
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let hold = format!("BEGIN; SELECT FROM accounts WHERE id = '{hot}' FOR UPDATE");
    let hold = sqlx::raw_sql(sqlx::AssertSqlSafe(hold));
    holder.execute(hold).await.unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let ledger = Arc::clone(&ledger);
        let target = ledger.open(rich, "EUR").await;
        crowd.spawn(async move { ledger.send(&payment(rich, hot, target, 1), None).await });
    }
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    eventually("transfers wait for the account", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut watcher)
        .await
        .unwrap();
        (waiting >= 4).then_some(())
    })
    .await;

    let order = payment(other, from, to, 1);
    let unhindered = tokio::time::timeout(Duration::from_secs(2), ledger.send(&order, None)).await;
    unhindered.expect("no wait for a connection").unwrap();

    holder.execute(sqlx::raw_sql("COMMIT")).await.unwrap();
    while let Some(sent) = crowd.join_next().await {
        sent.unwrap().unwrap();
    }
    ledger.assert_sound().await;
}
