//! The transfer function of Postgres decides like the domain.

use std::fmt::Write as _;

use std::collections::BTreeSet;

use db::Database;
use gantry::app::ledger::domain::{
    Currency, LockedAccount, MAX_AMOUNT, MAX_BALANCE, Order, Refusal, Source, post,
};
use gantry::app::ledger::store::TransferError;
use settings::clock::new_id;
use uuid::Uuid;

use super::{Fixture, deposit, payment};
use crate::support::Backend;

fn account(owner: Option<Uuid>, currency: &str, balance: i64, closed: bool) -> LockedAccount {
    LockedAccount {
        id: new_id(),
        owner,
        currency: Currency::parse(currency).unwrap(),
        balance,
        closed,
    }
}

/// Replaces all accounts.
async fn replace_accounts(ledger: &Fixture, accounts: &[LockedAccount]) {
    use sqlx::Executor as _;
    let Database::Postgres(db) = &ledger.database else {
        panic!("on Postgres only");
    };
    let mut sql = "DELETE FROM transfers; DELETE FROM accounts;".to_owned();
    for account in accounts {
        let owner = account
            .owner
            .map_or("NULL".to_owned(), |owner| format!("'{owner}'"));
        write!(
            sql,
            "INSERT INTO accounts (id, owner_id, is_system, currency, name, balance, created_at, closed_at)
             VALUES ('{}', {owner}, {}, '{}', 'x', {}, now(), {});",
            account.id,
            account.owner.is_none(),
            account.currency.as_str(),
            account.balance,
            if account.closed { "now()" } else { "NULL" },
        )
        .expect("a string takes what is written");
    }
    let mut connection = db.acquire().await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql);
    connection.execute(sqlx::raw_sql(sql)).await.unwrap();
}

/// The balances after the transfer, or the reason of the refusal.
async fn decide(ledger: &Fixture, order: &Order, from: Option<&LockedAccount>) -> String {
    match ledger.send(order, None).await {
        Ok(_) => {
            let balance = async |id: Uuid| {
                let sql = format!("SELECT balance FROM accounts WHERE id = '{id}'");
                ledger.number(&sql).await
            };
            let from = balance(from.expect("a source").id).await;
            format!("{from} {}", balance(order.to_account).await)
        }
        Err(TransferError::Refused { refusal, .. }) => refusal.as_str().to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn postgres_decides_as_the_domain_does() {
    let ledger = Fixture::new(Backend::Postgres).await;
    let (owner, other) = (new_id(), new_id());
    let sources = [
        account(Some(owner), "EUR", 100, false),
        account(Some(owner), "EUR", 100, true),
        account(Some(owner), "USD", MAX_BALANCE, false),
        account(Some(other), "EUR", 100, false),
    ];
    let targets = [
        account(Some(other), "EUR", 0, false),
        account(Some(other), "EUR", 0, true),
        account(Some(other), "EUR", MAX_BALANCE - 100, false),
        account(Some(other), "USD", MAX_BALANCE - 100, false),
    ];
    let systems = [
        account(None, "EUR", 0, false),
        account(None, "USD", i64::MIN + 100, false),
    ];
    let nobody = new_id();
    let mut seen = BTreeSet::new();
    for (source, target) in sources
        .iter()
        .flat_map(|source| targets.iter().map(move |target| (source, target)))
    {
        let present = [*source, *target, systems[0], systems[1]];
        for amount in [100, 101, MAX_AMOUNT] {
            let orders = [
                payment(owner, source.id, target.id, amount),
                payment(owner, source.id, source.id, amount),
                payment(owner, source.id, systems[0].id, amount),
                payment(owner, source.id, nobody, amount),
                payment(owner, nobody, target.id, amount),
                payment(owner, systems[0].id, target.id, amount),
                deposit(target.id, amount),
                deposit(systems[0].id, amount),
                deposit(nobody, amount),
            ];
            for order in orders {
                replace_accounts(&ledger, &present).await;
                let find = |id| present.iter().find(|account| account.id == id);
                let to = find(order.to_account);
                let from = match order.source {
                    Source::Own { account, .. } => find(account),
                    Source::System => systems
                        .iter()
                        .find(|system| to.is_some_and(|to| to.currency == system.currency)),
                };
                let expected = match post(&order, from, to) {
                    Ok(posting) => format!("{} {}", posting.from_balance, posting.to_balance),
                    Err(refusal) => refusal.as_str().to_owned(),
                };
                let answer = decide(&ledger, &order, from).await;
                assert_eq!(answer, expected, "{order:?} from {from:?} to {to:?}");
                seen.insert(expected);
            }
        }
    }
    for refusal in Refusal::ALL {
        assert!(seen.contains(refusal.as_str()), "{refusal:?}: {seen:?}");
    }
    assert!(seen.iter().any(|answer| answer.contains(' ')), "{seen:?}");
}
