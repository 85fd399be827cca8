//! Behaviour that both stores share.

use gantry::app::ledger::domain::{MAX_AMOUNT, MAX_BALANCE, Refusal};
use gantry::app::ledger::store::TransferError;
use request::page::PageRequest;
use settings::clock::new_id;
use uuid::Uuid;

use super::{Fixture, deposit, payment};
use crate::on_both;

fn refusal<T: std::fmt::Debug>(result: Result<T, TransferError>) -> Refusal {
    match result {
        Err(TransferError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

on_both! {
    async fn an_account_opens_empty_and_only_its_owner_sees_it(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (owner, other) = (new_id(), new_id());
        let id = ledger.open(owner, "EUR").await;
        let account = ledger.store.get_account(owner, id).await.unwrap().unwrap();
        assert_eq!((account.balance, account.version), (0, 1));
        assert_eq!((account.name.as_str(), account.currency.as_str()), ("Savings", "EUR"));
        assert_eq!(ledger.store.get_account(other, id).await.unwrap(), None);
        assert_eq!(ledger.store.get_account(owner, new_id()).await.unwrap(), None);
    }

    async fn stored_times_have_microsecond_precision(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let owner = new_id();
        let (from, to) = (ledger.open_with(owner, "EUR", 7).await, ledger.open(owner, "EUR").await);
        let made = ledger.send(&payment(owner, from, to, 7), None).await.unwrap().transfer;
        let read = ledger.store.get_transfer(owner, made.id).await.unwrap().unwrap();
        assert_eq!(made, read);
    }

    async fn a_transfer_moves_money_and_raises_both_versions(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let from = ledger.open_with(anna, "EUR", 100).await;
        let to = ledger.open(ben, "EUR").await;
        ledger.send(&payment(anna, from, to, 30), None).await.unwrap();
        let from = ledger.store.get_account(anna, from).await.unwrap().unwrap();
        let to = ledger.store.get_account(ben, to).await.unwrap().unwrap();
        assert_eq!((from.balance, from.version), (70, 3));
        assert_eq!((to.balance, to.version), (30, 2));
        ledger.assert_sound().await;
    }

    async fn a_deposit_comes_from_the_one_system_account_of_its_currency(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let owner = new_id();
        let (euros, dollars) = (ledger.open(owner, "EUR").await, ledger.open(owner, "USD").await);
        let first = ledger.send(&deposit(euros, 5), None).await.unwrap().transfer;
        let second = ledger.send(&deposit(euros, 6), None).await.unwrap().transfer;
        let third = ledger.send(&deposit(dollars, 7), None).await.unwrap().transfer;
        assert_eq!(first.from_account, second.from_account);
        assert_ne!(first.from_account, third.from_account);
        let system = "SELECT CAST(sum(balance) AS BIGINT) FROM accounts WHERE is_system";
        assert_eq!(ledger.number(system).await, -18);
        // The account does not receive payments either.
        let back = payment(owner, euros, first.from_account, 1);
        assert_eq!(refusal(ledger.send(&back, None).await), Refusal::UnknownTarget);
        assert_eq!(
            refusal(ledger.send(&deposit(first.from_account, 1), None).await),
            Refusal::UnknownTarget
        );
        ledger.assert_sound().await;
    }

    async fn concurrent_first_deposits_create_one_system_account(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let owner = new_id();
        let mut orders = Vec::new();
        for _ in 0..8 {
            orders.push(deposit(ledger.open(owner, "EUR").await, 1));
        }
        let sent = orders.iter().map(|order| ledger.send(order, None));
        for receipt in futures_util::future::join_all(sent).await {
            receipt.unwrap();
        }
        let system = "SELECT count(*) FROM accounts WHERE is_system";
        assert_eq!(ledger.number(system).await, 1);
        ledger.assert_sound().await;
    }

    async fn a_refusal_leaves_everything_as_it_was(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let from = ledger.open_with(anna, "EUR", 100).await;
        let to = ledger.open(ben, "EUR").await;
        let dollars = ledger.open(ben, "USD").await;
        let cases = [
            (payment(anna, new_id(), to, 1), Refusal::UnknownSource),
            (payment(ben, from, to, 1), Refusal::UnknownSource),
            (payment(anna, from, new_id(), 1), Refusal::UnknownTarget),
            (payment(anna, from, from, 1), Refusal::SameAccount),
            (payment(anna, from, dollars, 1), Refusal::CurrencyMismatch),
            (payment(anna, from, to, 101), Refusal::InsufficientFunds),
            (deposit(new_id(), 1), Refusal::UnknownTarget),
        ];
        for (order, expected) in cases {
            assert_eq!(refusal(ledger.send(&order, None).await), expected);
        }
        assert_eq!(ledger.balance(anna, from).await, 100);
        assert_eq!(ledger.transfers().await, 1);
        ledger.assert_sound().await;
    }

    async fn a_balance_stops_at_its_limit(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let owner = new_id();
        let full = ledger.open(owner, "EUR").await;
        for _ in 0..MAX_BALANCE / MAX_AMOUNT {
            ledger.send(&deposit(full, MAX_AMOUNT), None).await.unwrap();
        }
        let room = MAX_BALANCE % MAX_AMOUNT;
        let beyond = ledger.send(&deposit(full, room + 1), None).await;
        assert_eq!(refusal(beyond), Refusal::BalanceLimitExceeded);
        ledger.send(&deposit(full, room), None).await.unwrap();
        assert_eq!(ledger.balance(owner, full).await, MAX_BALANCE);
        ledger.assert_sound().await;
    }

    async fn only_both_owners_see_a_transfer(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben, eve) = (new_id(), new_id(), new_id());
        let from = ledger.open_with(anna, "EUR", 10).await;
        let to = ledger.open(ben, "EUR").await;
        let made = ledger.send(&payment(anna, from, to, 1), None).await.unwrap().transfer;
        for (user, sees) in [(anna, true), (ben, true), (eve, false)] {
            let found = ledger.store.get_transfer(user, made.id).await.unwrap();
            assert_eq!(found.is_some(), sees);
            let listed = ledger.store.list_transfers(user, page(100, None)).await.unwrap();
            assert_eq!(listed.iter().any(|transfer| transfer.id == made.id), sees);
        }
    }

    async fn pages_show_everything_once_newest_first(backend: Backend) {
        let ledger = Fixture::new(backend).await;
        let (anna, ben) = (new_id(), new_id());
        let first = ledger.open_with(anna, "EUR", 100).await;
        let second = ledger.open(anna, "EUR").await;
        let bens = ledger.open_with(ben, "EUR", 100).await;
        let mut made = vec![];
        // Outgoing, incoming, and between two own accounts, which is still one transfer.
        for _ in 0..4 {
            for order in [
                payment(anna, first, bens, 1),
                payment(ben, bens, second, 1),
                payment(anna, first, second, 1),
            ] {
                made.push(ledger.send(&order, None).await.unwrap().transfer.id);
            }
        }
        made.reverse();
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let request = page(5, before);
            let found = ledger.store.list_transfers(anna, request).await.unwrap();
            let found = request.page(found, |transfer| transfer.id);
            seen.extend(found.items.iter().map(|transfer| transfer.id));
            before = seen.last().copied();
            if found.next.is_none() {
                break;
            }
        }
        // The oldest entry is the deposit.
        assert_eq!(seen.len(), made.len() + 1);
        assert_eq!(seen[..made.len()], made);
        let accounts = ledger.store.list_accounts(anna, page(1, None)).await.unwrap();
        let ids: Vec<_> = accounts.iter().map(|account| account.id).collect();
        assert_eq!(ids, [second, first], "one more than the page, newest first");
        let rest = ledger.store.list_accounts(anna, page(5, Some(second))).await.unwrap();
        assert_eq!(rest.len(), 1);
    }
}

fn page(limit: u32, after: Option<Uuid>) -> PageRequest {
    PageRequest { limit, after }
}
