//! Nothing is inserted for an erased user, even if both happen at the same time.

use std::sync::Arc;

use db::Database;
use gantry::app::ledger::domain::{AccountName, Currency, NewAccount, Order};
use gantry::app::ledger::store::postgres::PostgresLedger;
use gantry::app::ledger::store::sqlite::SqliteLedger;
use gantry::app::ledger::store::{OpenError, TransferError};
use identity::domain::{Email, Name, SessionOrigin, User};
use identity::store::{
    ExpectedVersion, IdentityStore, NewTokenFamily, NewUser, PostgresIdentityStore,
    RotationOutcome, RotationRequest, SqliteIdentityStore,
};
use request::Role;
use serde_json::{Value, json};
use settings::clock::{SystemClock, new_id};
use uuid::Uuid;

use super::client::{Client, transfer};
use super::{Fixture, claim, deposit, now, number, payment};
use crate::on_both;
use crate::support::{Backend, Service, TestDatabase, eventually};

const HASH: &str = "$argon2id$";

/// The identity service on the same database, with the ledger's participation in erasures.
fn identity(ledger: &Fixture) -> Arc<dyn IdentityStore> {
    let clock = Arc::new(SystemClock);
    match &ledger.database {
        Database::Sqlite(db) => {
            let hook = Arc::new(SqliteLedger::new(db.clone(), clock));
            Arc::new(SqliteIdentityStore::new(db.clone(), vec![hook]))
        }
        Database::Postgres(db) => {
            let hook = Arc::new(PostgresLedger::new(db.clone(), clock));
            Arc::new(PostgresIdentityStore::new(db.clone(), vec![hook]))
        }
    }
}

async fn user(identity: &Arc<dyn IdentityStore>) -> Uuid {
    let id = new_id();
    let user = User {
        id,
        email: Email::parse(&format!("{}@example.com", id.simple())).unwrap(),
        name: Name::parse("Ada").unwrap(),
        role: Role::User,
        created_at: now(),
        version: 1,
    };
    let password_hash = HASH.to_owned();
    let new = NewUser {
        user,
        password_hash,
    };
    identity.create_user(new).await.unwrap();
    id
}

fn new_account(owner: Uuid) -> NewAccount {
    NewAccount {
        id: new_id(),
        owner,
        currency: Currency::parse("EUR").unwrap(),
        name: AccountName::parse("Savings").unwrap(),
        now: now(),
    }
}

fn family(user: Uuid, token: [u8; 32]) -> NewTokenFamily {
    NewTokenFamily {
        id: new_id(),
        user,
        verified_hash: HASH.to_owned(),
        upgraded_hash: None,
        origin: SessionOrigin::default(),
        max_sessions: 100,
        token,
        expires_at: now() + time::Duration::DAY,
        now: now(),
    }
}

fn rotation(old: [u8; 32]) -> RotationRequest {
    RotationRequest {
        token: old,
        successor: token(),
        expires_at: now() + time::Duration::DAY,
        max_age: std::time::Duration::from_hours(1),
        origin: SessionOrigin::default(),
        grace: std::time::Duration::ZERO,
        now: now(),
    }
}

fn token() -> [u8; 32] {
    let mut token = [0; 32];
    token[..16].copy_from_slice(new_id().as_bytes());
    token
}

/// Rows that must not exist for erased users.
const LEFT_BEHIND: [&str; 4] = [
    "SELECT count(*) FROM accounts a JOIN users u ON u.id = a.owner_id
     WHERE u.erased_at IS NOT NULL AND a.closed_at IS NULL",
    "SELECT count(*) FROM idempotency_keys k JOIN users u ON u.id = k.user_id
     WHERE u.erased_at IS NOT NULL",
    "SELECT count(*) FROM refresh_families f JOIN users u ON u.id = f.user_id
     WHERE u.erased_at IS NOT NULL",
    "SELECT count(*) FROM refresh_tokens t JOIN refresh_families f ON f.id = t.family_id
     JOIN users u ON u.id = f.user_id WHERE u.erased_at IS NOT NULL",
];

async fn assert_nothing_left(ledger: &Fixture) {
    for sql in LEFT_BEHIND {
        assert_eq!(ledger.number(sql).await, 0, "{sql}");
    }
}

/// The tables with a column that references a user.
async fn tables_of_users(ledger: &Fixture) -> Vec<String> {
    match &ledger.database {
        Database::Sqlite(db) => {
            let mut connection = db.acquire().await.unwrap();
            let query = "SELECT DISTINCT m.name FROM sqlite_master m, pragma_table_info(m.name) c
                         WHERE m.type = 'table' AND c.name IN ('user_id', 'owner_id')";
            let rows = sqlx::query_scalar(query).fetch_all(&mut *connection).await;
            rows.unwrap()
        }
        Database::Postgres(db) => {
            let mut connection = db.acquire().await.unwrap();
            let query = "SELECT DISTINCT table_name::text FROM information_schema.columns
                         WHERE table_schema = 'public' AND column_name IN ('user_id', 'owner_id')";
            let rows = sqlx::query_scalar(query).fetch_all(&mut *connection).await;
            rows.unwrap()
        }
    }
}

async fn assert_refused(ledger: &Fixture, order: &Order, user: Uuid, key: &str) {
    let answer = ledger.send(order, Some(&claim(user, key, order))).await;
    assert!(matches!(answer, Err(TransferError::Erased)), "{answer:?}");
}

on_both! {
    async fn nothing_is_inserted_for_an_erased_user(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let identity = identity(&ledger);
        let (gone, other) = (user(&identity).await, user(&identity).await);
        let closed = ledger.open(gone, "EUR").await;
        let target = ledger.open(other, "EUR").await;
        let old = token();
        assert_eq!(identity.create_token_family(family(gone, old)).await.unwrap(), Some(0));
        identity.erase_user(gone, None, ExpectedVersion::Any, now()).await.unwrap();

        let opened = ledger.store.open_account(&new_account(gone)).await;
        assert!(matches!(opened, Err(OpenError::Erased)), "{opened:?}");
        // A payment, accepted or refused, and a deposit by a former administrator.
        assert_refused(&ledger, &payment(gone, closed, target, 1), gone, "payment").await;
        assert_refused(&ledger, &payment(gone, new_id(), target, 1), gone, "unknown").await;
        assert_refused(&ledger, &deposit(target, 1), gone, "deposit").await;
        let unclaimed = ledger.send(&payment(gone, closed, target, 1), None).await;
        assert!(matches!(unclaimed, Err(TransferError::Erased)), "{unclaimed:?}");
        assert_eq!(identity.create_token_family(family(gone, token())).await.unwrap(), None);
        assert_eq!(identity.rotate(rotation(old)).await.unwrap(), RotationOutcome::Invalid);

        assert_nothing_left(&ledger).await;
        assert_eq!(ledger.transfers().await, 0);
        // Other users are not affected.
        ledger.open(other, "USD").await;
        let order = deposit(target, 1);
        ledger.send(&order, Some(&claim(other, "k", &order))).await.unwrap();
    }

    async fn every_table_with_user_rows_is_covered(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let missed = |table: &&String| {
            let from = [format!("FROM {table} "), format!("JOIN {table} ")];
            !LEFT_BEHIND.iter().any(|sql| from.iter().any(|from| sql.contains(from)))
        };
        let tables = tables_of_users(&ledger).await;
        assert!(tables.len() >= 3, "{tables:?}");
        let missed: Vec<_> = tables.iter().filter(missed).collect();
        // A new table needs the check of the living user where it is written (`user_is_erased`,
        // `is_erased`), a case in the two neighbouring tests, and a query above.
        assert_eq!(missed, Vec::<&String>::new());
    }

    async fn concurrent_inserts_precede_the_erasure_or_fail(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let identity = identity(&ledger);
        let target = ledger.open(new_id(), "EUR").await;
        for round in 0..12 {
            let gone = user(&identity).await;
            let old = token();
            assert_eq!(identity.create_token_family(family(gone, old)).await.unwrap(), Some(0));
            let account = new_account(gone);
            let order = payment(gone, new_id(), target, 1);
            let held = claim(gone, "k", &order);
            let erase = async {
                // The delay grows with each round.
                for _ in 0..round * 4 {
                    tokio::task::yield_now().await;
                }
                identity.erase_user(gone, None, ExpectedVersion::Any, now()).await
            };
            let (erased, ..) = tokio::join!(
                erase,
                ledger.store.open_account(&account),
                ledger.send(&order, Some(&held)),
                identity.create_token_family(family(gone, token())),
                identity.rotate(rotation(old)),
            );
            erased.unwrap();
            assert_nothing_left(&ledger).await;
        }
    }
}

/// The erasure has written but not committed. Inserts for the user wait and then fail, inserts for
/// others do not wait.
#[tokio::test]
async fn inserts_wait_for_a_running_erasure() {
    let ledger = Fixture::new(Backend::Postgres).await;
    let identity = identity(&ledger);
    let (gone, other) = (user(&identity).await, user(&identity).await);
    let target = ledger.open(other, "EUR").await;
    let Database::Postgres(db) = &ledger.database else {
        panic!("on Postgres");
    };
    let mut erasure = db.begin().await.unwrap();
    for sql in [
        "SELECT pg_advisory_xact_lock(user_lock($1))",
        "UPDATE users SET email = NULL, name = NULL, password_hash = NULL, erased_at = now()
         WHERE id = $1",
    ] {
        let query = sqlx::query(sql).bind(gone);
        query.execute(&mut *erasure).await.unwrap();
    }
    let (store, order) = (ledger.store.clone(), payment(gone, new_id(), target, 1));
    let held = claim(gone, "k", &order);
    let account = new_account(gone);
    let opened = tokio::spawn(async move { store.open_account(&account).await.map(drop) });
    let store = ledger.store.clone();
    let sent = tokio::spawn(async move { store.transfer(&order, Some(&held)).await.map(drop) });
    eventually("both wait", async || {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                       WHERE l.locktype = 'advisory' AND NOT l.granted
                         AND d.datname = current_database()";
        (ledger.number(waiting).await == 2).then_some(())
    })
    .await;
    ledger.open(other, "USD").await;
    erasure.commit().await.unwrap();
    let opened = opened.await.unwrap();
    assert!(matches!(opened, Err(OpenError::Erased)), "{opened:?}");
    let sent = sent.await.unwrap();
    assert!(matches!(sent, Err(TransferError::Erased)), "{sent:?}");
    assert_nothing_left(&ledger).await;
}

/// For some seconds, a replica still considers a user alive whom another replica has erased.
#[tokio::test]
async fn another_replica_inserts_nothing_for_an_erased_user() {
    let k = "bGVkZ2VyLXRlc3RzLXNoYXJlLXRoaXMtc2VjcmV0LTAxMjM0NTY3ODk";
    let keys = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "shared", "k": k}]});
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let start = || {
        let builder = Service::builder(Backend::Postgres).database(&database);
        builder.env("APP__AUTH__KEYS", keys.to_string()).start()
    };
    // Sequentially, because both would create the first administrator.
    let one = start().await;
    let two = start().await;
    let here = Client::register(&one, "ada").await;
    let there = here.at(&two);
    let target = Client::register(&one, "ben").await.open("EUR").await;
    let from = there.open("EUR").await;
    assert_eq!(here.leave().await.status(), 204);
    let account = json!({ "currency": "EUR", "name": "Savings" });
    let order = transfer(&from, &target, 1);
    let post = there.request("POST", "/api/v1/transfers").json(&order);
    for answer in [
        there.post("/api/v1/accounts", &account).await,
        post.header("idempotency-key", "k").send().await.unwrap(),
        there.post("/api/v1/transfers", &order).await,
    ] {
        assert_eq!(answer.status(), 401);
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
        assert_eq!(challenge, "Bearer error=\"invalid_token\"");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["code"], "UNAUTHENTICATED");
    }
    for sql in LEFT_BEHIND {
        assert_eq!(number(database.url(), sql).await, 0, "{sql}");
    }
}
