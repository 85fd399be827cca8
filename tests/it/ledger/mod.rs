//! The ledger: its stores on both databases, and its API.

mod api;
mod bad_input;
pub mod client;
mod crash;
mod erasure;
mod erasure_races;
mod hot_account;
mod idempotency;
mod properties;
mod round_trips;
mod rules;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use db::{Database, DbMetrics, migrate};
use gantry::app::ledger::domain::{
    AccountName, Amount, Currency, NewAccount, Order, Reference, Source,
};
use gantry::app::ledger::store::postgres::PostgresLedger;
use gantry::app::ledger::store::sqlite::SqliteLedger;
use gantry::app::ledger::store::{LedgerStore, TransferError, TransferReceipt};
use gantry::config::Config;
use identity::store::{ErasureError, ErasureHook as _};
use request::idempotency::{Claim, IdempotencyKey, KeyConflict};
use settings::Layers;
use settings::clock::{Clock as _, SystemClock, new_id};
use telemetry::Exemplars;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::{Backend, TestDatabase};

/// The ledger store on a new, migrated database.
struct Fixture {
    store: Arc<dyn LedgerStore>,
    database: Database,
    _kept: TestDatabase,
}

impl Fixture {
    async fn new(backend: Backend) -> Self {
        let kept = TestDatabase::create(backend).await;
        let url = kept.url().to_owned();
        Self::reached_by(kept, url).await
    }

    /// With a database URL that differs from that of the database.
    async fn reached_by(kept: TestDatabase, url: String) -> Self {
        let environment = vec![("DATABASE_URL".to_owned(), url)];
        let nowhere = Path::new("/nowhere");
        let layers = Layers::load(nowhere, nowhere, environment);
        let (config, _) = Config::read(layers).expect("a configuration");
        let metrics = DbMetrics::register(&prometheus::Registry::new()).expect("metrics");
        let database = Database::new(
            &gantry::SCHEMA,
            &config.database,
            Arc::new(metrics),
            Exemplars::default(),
        )
        .expect("a pool");
        migrate::run(
            &database,
            &config.database.url,
            config.database.acquire_timeout,
            |_| {},
        )
        .await
        .expect("migrations");
        let clock = Arc::new(SystemClock);
        let store: Arc<dyn LedgerStore> = match &database {
            Database::Sqlite(db) => Arc::new(SqliteLedger::new(db.clone(), clock)),
            Database::Postgres(db) => Arc::new(PostgresLedger::new(db.clone(), clock)),
        };
        Self {
            store,
            database,
            _kept: kept,
        }
    }

    async fn open(&self, owner: Uuid, currency: &str) -> Uuid {
        let account = NewAccount {
            id: new_id(),
            owner,
            currency: Currency::parse(currency).unwrap(),
            name: AccountName::parse("Savings").unwrap(),
            now: now(),
        };
        self.store.open_account(&account).await.unwrap().id
    }

    /// Opens an account with a balance.
    async fn open_with(&self, owner: Uuid, currency: &str, balance: i64) -> Uuid {
        let account = self.open(owner, currency).await;
        self.send(&deposit(account, balance), None).await.unwrap();
        account
    }

    async fn send(
        &self,
        order: &Order,
        claim: Option<&Claim>,
    ) -> Result<TransferReceipt, TransferError> {
        self.store.transfer(order, claim).await
    }

    async fn balance(&self, owner: Uuid, account: Uuid) -> i64 {
        let account = self.store.get_account(owner, account).await.unwrap();
        account.expect("the account").balance
    }

    /// Queries a number.
    async fn number(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.database {
            Database::Sqlite(db) => {
                let mut connection = db.acquire().await.expect("a connection");
                sqlx::query_scalar(sql).fetch_one(&mut *connection).await
            }
            Database::Postgres(db) => {
                let mut connection = db.acquire().await.expect("a connection");
                sqlx::query_scalar(sql).fetch_one(&mut *connection).await
            }
        }
        .unwrap()
    }

    async fn transfers(&self) -> i64 {
        self.number("SELECT count(*) FROM transfers").await
    }

    /// Asserts the invariants of the ledger.
    async fn assert_sound(&self) {
        let unbalanced = "SELECT count(*) FROM
            (SELECT currency FROM accounts GROUP BY currency HAVING sum(balance) <> 0) AS c";
        assert_eq!(
            self.number(unbalanced).await,
            0,
            "a currency that does not sum to zero"
        );
        let negative = "SELECT count(*) FROM accounts WHERE balance < 0 AND NOT is_system";
        assert_eq!(self.number(negative).await, 0, "an account below zero");
        let wrong = "SELECT count(*) FROM accounts a WHERE a.balance <>
            (SELECT coalesce(sum(amount), 0) FROM transfers t WHERE t.to_account = a.id)
            - (SELECT coalesce(sum(amount), 0) FROM transfers t WHERE t.from_account = a.id)";
        assert_eq!(
            self.number(wrong).await,
            0,
            "a balance that its transfers do not explain"
        );
    }

    /// Runs the erasure of a user in a transaction, and optionally commits it.
    async fn erase(&self, user: Uuid, commit: bool) -> Result<(), ErasureError> {
        let clock = Arc::new(SystemClock);
        match &self.database {
            Database::Sqlite(db) => {
                let mut tx = db.begin().await?;
                let hook = SqliteLedger::new(db.clone(), clock);
                hook.erase(&mut tx, user).await?;
                if commit {
                    tx.commit().await
                } else {
                    tx.rollback().await
                }
                .unwrap();
            }
            Database::Postgres(db) => {
                let mut tx = db.begin().await?;
                let hook = PostgresLedger::new(db.clone(), clock);
                hook.erase(&mut tx, user).await?;
                if commit {
                    tx.commit().await
                } else {
                    tx.rollback().await
                }
                .unwrap();
            }
        }
        Ok(())
    }
}

/// Queries a number over a separate connection.
async fn number(url: &str, sql: &str) -> i64 {
    use sqlx::Connection as _;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut connection).await
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut connection).await
    }
    .unwrap()
}

fn now() -> OffsetDateTime {
    SystemClock.now()
}

fn order(source: Source, to_account: Uuid, amount: i64) -> Order {
    Order {
        id: new_id(),
        source,
        to_account,
        amount: Amount::parse(amount).unwrap(),
        reference: Reference::parse("a reference").unwrap(),
        now: now(),
    }
}

fn deposit(to_account: Uuid, amount: i64) -> Order {
    order(Source::System, to_account, amount)
}

fn payment(owner: Uuid, account: Uuid, to_account: Uuid, amount: i64) -> Order {
    order(Source::Own { account, owner }, to_account, amount)
}

/// An idempotency claim for this order that expires after an hour.
fn claim(user: Uuid, key: &str, order: &Order) -> Claim {
    Claim {
        user,
        key: IdempotencyKey::parse(key).unwrap(),
        fingerprint: order.fingerprint(),
        expires_at: order.now + time::Duration::HOUR,
    }
}

/// Repeats the request until the key is free, like a client that honours 409, with shorter delays.
async fn send_until_free(
    store: &Arc<dyn LedgerStore>,
    order: &Order,
    claim: &Claim,
) -> Result<TransferReceipt, TransferError> {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while std::time::Instant::now() < deadline {
        match store.transfer(order, Some(claim)).await {
            Err(TransferError::KeyConflict(KeyConflict::InProgress)) => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            answer => return answer,
        }
    }
    panic!("the key stays in progress");
}
