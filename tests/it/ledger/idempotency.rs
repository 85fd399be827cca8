//! Idempotency keys in both stores.

use std::collections::BTreeSet;
use std::time::Duration;

use db::Database;
use gantry::app::ledger::domain::{Order, Refusal};
use gantry::app::ledger::store::{CLEANUP_BATCH, TransferError};
use request::idempotency::KeyConflict;
use settings::clock::new_id;

use super::{Fixture, claim, deposit, now, payment, send_until_free};
use crate::on_both;

on_both! {
    async fn a_repeated_key_and_order_yield_one_transfer(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let from = ledger.open_with(anna, "EUR", 100).await;
        let to = ledger.open(ben, "EUR").await;
        let first = payment(anna, from, to, 10);
        let again = payment(anna, from, to, 10);
        let made = ledger.send(&first, Some(&claim(anna, "k", &first))).await.unwrap();
        let replay = ledger.send(&again, Some(&claim(anna, "k", &again))).await.unwrap();
        assert_eq!((made.replayed, replay.replayed), (false, true));
        assert_eq!(made.transfer, replay.transfer);
        assert_eq!(ledger.balance(anna, from).await, 90);
        ledger.assert_sound().await;
    }

    async fn a_key_of_another_order_is_refused(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let anna = new_id();
        let account = ledger.open(anna, "EUR").await;
        let first = deposit(account, 10);
        ledger.send(&first, Some(&claim(anna, "k", &first))).await.unwrap();
        let other = deposit(account, 11);
        let refused = ledger.send(&other, Some(&claim(anna, "k", &other))).await;
        assert!(matches!(refused, Err(TransferError::KeyConflict(KeyConflict::Mismatch))), "{refused:?}");
        assert_eq!(ledger.balance(anna, account).await, 10);
    }

    async fn users_share_no_keys(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        for user in [anna, ben] {
            let account = ledger.open(user, "EUR").await;
            let order = deposit(account, 10);
            let receipt = ledger.send(&order, Some(&claim(user, "k", &order))).await.unwrap();
            assert!(!receipt.replayed);
        }
    }

    async fn a_refusal_is_replayed_even_when_it_would_pass_now(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let from = ledger.open(anna, "EUR").await;
        let to = ledger.open(ben, "EUR").await;
        let order = payment(anna, from, to, 10);
        let held = claim(anna, "k", &order);
        for replayed in [false, true] {
            let refused = ledger.send(&order, Some(&held)).await;
            let Err(TransferError::Refused { refusal, replayed: again }) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!((refusal, again), (Refusal::InsufficientFunds, replayed));
            ledger.send(&deposit(from, 100), None).await.unwrap();
        }
        let fresh = claim(anna, "l", &order);
        ledger.send(&order, Some(&fresh)).await.expect("a new key is a new try");
    }

    async fn an_expired_key_starts_anew(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let anna = new_id();
        let account = ledger.open(anna, "EUR").await;
        let first = deposit(account, 10);
        ledger.send(&first, Some(&claim(anna, "k", &first))).await.unwrap();
        let later = Order { now: first.now + time::Duration::HOUR, ..deposit(account, 11) };
        let receipt = ledger.send(&later, Some(&claim(anna, "k", &later))).await.unwrap();
        assert!(!receipt.replayed);
        assert_eq!(ledger.balance(anna, account).await, 21);
    }

    async fn expired_keys_are_removed_and_others_stay(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let anna = new_id();
        let target = new_id();
        let expired = CLEANUP_BATCH + 3;
        // Refusals are the cheapest responses.
        let mut sent = Vec::new();
        for index in 0..=expired {
            let order = deposit(target, 1);
            let mut held = claim(anna, &format!("k{index}"), &order);
            if index < expired {
                held.expires_at = order.now + time::Duration::SECOND;
            }
            sent.push((order, held));
        }
        for chunk in sent.chunks(10) {
            let chunk = chunk.iter().map(|(order, held)| ledger.send(order, Some(held)));
            for refused in futures_util::future::join_all(chunk).await {
                assert!(matches!(refused, Err(TransferError::Refused { .. })), "{refused:?}");
            }
        }
        let now = now() + time::Duration::seconds(2);
        let removed = ledger.store.remove_expired_idempotency_keys(now).await.unwrap();
        assert_eq!(removed, u64::from(expired));
        assert_eq!(ledger.number("SELECT count(*) FROM idempotency_keys").await, 1);
        assert_eq!(ledger.store.remove_expired_idempotency_keys(now).await.unwrap(), 0);
    }

    async fn concurrent_orders_with_one_key_make_one_transfer(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let from = ledger.open_with(anna, "EUR", 1_000).await;
        let to = ledger.open(ben, "EUR").await;
        let tries = (0..50).map(|_| {
            let store = ledger.store.clone();
            let order = payment(anna, from, to, 10);
            tokio::spawn(async move {
                let held = claim(anna, "k", &order);
                send_until_free(&store, &order, &held).await.unwrap()
            })
        });
        let mut ids = BTreeSet::new();
        let mut made = 0;
        for receipt in futures_util::future::join_all(tries).await {
            let receipt = receipt.unwrap();
            ids.insert(receipt.transfer.id);
            made += i32::from(!receipt.replayed);
        }
        assert_eq!((ids.len(), made), (1, 1));
        assert_eq!(ledger.balance(anna, from).await, 990);
        ledger.assert_sound().await;
    }

    async fn a_second_request_is_told_that_the_first_is_running(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let anna = new_id();
        let account = ledger.open(anna, "EUR").await;
        let order = deposit(account, 10);
        let held = claim(anna, "k", &order);
        let second = match &ledger.database {
            // After one poll the first request is registered and cannot have finished.
            Database::Sqlite(_) => {
                let mut first = Box::pin(ledger.send(&order, Some(&held)));
                assert!(futures_util::poll!(first.as_mut()).is_pending());
                ledger.send(&order, Some(&held)).await
            }
            // A transaction of another process.
            Database::Postgres(db) => {
                let mut other = db.begin().await.unwrap();
                let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(held.lock_number());
                lock.execute(&mut *other).await.unwrap();
                ledger.send(&order, Some(&held)).await
            }
        };
        assert!(matches!(second, Err(TransferError::KeyConflict(KeyConflict::InProgress))), "{second:?}");
        // The first request was dropped and left nothing behind.
        assert_eq!(ledger.transfers().await, 0);
        let receipt = send_until_free(&ledger.store, &order, &held).await.unwrap();
        assert!(!receipt.replayed);
    }

    async fn a_request_that_is_aborted_leaves_no_key_behind(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let from = ledger.open_with(anna, "EUR", 1_000).await;
        let to = ledger.open(ben, "EUR").await;
        let before = ledger.transfers().await;
        let tries: i64 = 60;
        for index in 0..tries {
            let order = payment(anna, from, to, 1);
            let held = claim(anna, &format!("k{index}"), &order);
            // Aborted at increasingly later points: before the lock, between statements, at the
            // commit.
            let cut = Duration::from_micros(50 * index.unsigned_abs());
            let _cut = tokio::time::timeout(cut, ledger.send(&order, Some(&held))).await;
            let receipt = send_until_free(&ledger.store, &order, &held).await.unwrap();
            assert_eq!(receipt.transfer.amount, 1);
        }
        assert_eq!(ledger.transfers().await, before + tries);
        assert_eq!(ledger.balance(anna, from).await, 1_000 - tries);
        ledger.assert_sound().await;
    }
}
