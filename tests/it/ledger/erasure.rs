//! The ledger during the erasure of a user.

use gantry::app::ledger::domain::Refusal;
use gantry::app::ledger::store::TransferError;
use identity::store::ErasureError;
use settings::clock::new_id;

use super::{Fixture, claim, deposit, payment};
use crate::on_both;

on_both! {
    async fn a_user_with_money_is_not_erased(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let owner = new_id();
        ledger.open(owner, "EUR").await;
        let account = ledger.open_with(owner, "USD", 1).await;
        let refused = ledger.erase(owner, true).await;
        assert!(matches!(refused, Err(ErasureError::Refused(_))));
        ledger.send(&deposit(account, 1), None).await.expect("the account is open");
    }

    async fn accounts_of_an_erased_user_take_no_money_and_lose_their_names(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (gone, other) = (new_id(), new_id());
        let closed = ledger.open_with(gone, "EUR", 5).await;
        let from = ledger.open_with(other, "EUR", 100).await;
        let last = payment(gone, closed, from, 5);
        let spent = ledger.send(&last, Some(&claim(gone, "last", &last))).await.unwrap();
        ledger.erase(gone, true).await.unwrap();
        for order in [deposit(closed, 1), payment(other, from, closed, 1)] {
            let refused = ledger.send(&order, None).await;
            assert!(
                matches!(refused, Err(TransferError::Refused { refusal: Refusal::AccountClosed, .. })),
                "{refused:?}"
            );
        }
        let names = "SELECT count(*) FROM accounts WHERE name = 'Savings'";
        assert_eq!(ledger.number(names).await, 1, "the other user's account keeps its name");
        assert_eq!(ledger.number("SELECT count(*) FROM idempotency_keys").await, 0);
        // The history of the other party remains.
        assert!(ledger.store.get_transfer(other, spent.transfer.id).await.unwrap().is_some());
        ledger.assert_sound().await;
    }

    async fn a_rolled_back_erasure_closes_no_account(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let owner = new_id();
        let account = ledger.open(owner, "EUR").await;
        ledger.erase(owner, false).await.unwrap();
        ledger.send(&deposit(account, 1), None).await.expect("the account is open");
    }

    async fn money_that_arrives_during_an_erasure_is_not_lost(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        for _ in 0..10 {
            let owner = new_id();
            let account = ledger.open(owner, "EUR").await;
            let order = deposit(account, 1);
            let (erased, deposited) =
                tokio::join!(ledger.erase(owner, true), ledger.send(&order, None));
            assert_ne!(erased.is_ok(), deposited.is_ok(), "exactly one of them happens");
        }
        ledger.assert_sound().await;
    }
}
