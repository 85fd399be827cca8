//! Property tests with random histories. Sequential histories are compared with a model, concurrent
//! ones with the acknowledged transfers.
//!
//! A failure prints its seed. `LEDGER_SEED=<seed>` repeats the same histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry::app::ledger::domain::{MAX_BALANCE, Order, Refusal};
use gantry::app::ledger::store::{TransferError, TransferReceipt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use settings::clock::new_id;
use uuid::Uuid;

use super::{Fixture, claim, deposit, payment, send_until_free};
use crate::support::Backend;

/// Owners and their accounts: two of one owner, one of another owner, one in dollars.
const ACCOUNTS: [(usize, &str); 4] = [(0, "EUR"), (0, "EUR"), (1, "EUR"), (1, "USD")];
/// Random histories for each test and database.
const CASES: u32 = 12;

/// A request of a client and its number of repetitions.
#[derive(Debug, Clone)]
struct Step {
    /// The paying account. `None` is a deposit.
    from: Option<usize>,
    to: usize,
    amount: i64,
    times: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let from = prop_oneof![1 => Just(None), 3 => (0..ACCOUNTS.len()).prop_map(Some)];
    // Amounts and balances have similar sizes, so that successes and refusals are both common.
    (from, 0..ACCOUNTS.len(), 1_i64..60, 1..4_usize).prop_map(|(from, to, amount, times)| Step {
        from,
        to,
        amount,
        times,
    })
}

/// The model: a table of balances.
#[derive(Debug, Default)]
struct Model {
    balances: [i64; ACCOUNTS.len()],
    deposited: BTreeMap<&'static str, i64>,
    transfers: i64,
}

impl Model {
    fn predict(&self, step: &Step) -> Result<(), Refusal> {
        let Some(from) = step.from else {
            return Ok(());
        };
        if from == step.to {
            return Err(Refusal::SameAccount);
        }
        if ACCOUNTS[from].1 != ACCOUNTS[step.to].1 {
            return Err(Refusal::CurrencyMismatch);
        }
        if self.balances[from] < step.amount {
            return Err(Refusal::InsufficientFunds);
        }
        Ok(())
    }

    fn apply(&mut self, step: &Step) {
        match step.from {
            Some(from) => self.balances[from] -= step.amount,
            None => *self.deposited.entry(ACCOUNTS[step.to].1).or_default() += step.amount,
        }
        self.balances[step.to] += step.amount;
        self.transfers += 1;
    }
}

struct World {
    ledger: Fixture,
    owners: [Uuid; 2],
    accounts: Vec<Uuid>,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let ledger = Fixture::new(backend).await;
        let owners = [new_id(), new_id()];
        let mut accounts = Vec::new();
        for (owner, currency) in ACCOUNTS {
            accounts.push(ledger.open(owners[owner], currency).await);
        }
        Self {
            ledger,
            owners,
            accounts,
        }
    }

    fn order(&self, step: &Step) -> Order {
        let to = self.accounts[step.to];
        match step.from {
            None => deposit(to, step.amount),
            Some(from) => {
                let owner = self.owners[ACCOUNTS[from].0];
                payment(owner, self.accounts[from], to, step.amount)
            }
        }
    }

    /// Sends a step with its repetitions, one after the other. All responses must be equal.
    async fn send(&self, key: &str, step: &Step) -> Result<TransferReceipt, Refusal> {
        let mut first = None;
        for time in 0..step.times {
            let order = self.order(step);
            let held = claim(self.owners[0], key, &order);
            let answer = match send_until_free(&self.ledger.store, &order, &held).await {
                Ok(receipt) => {
                    assert_eq!(receipt.replayed, time > 0);
                    Ok(receipt)
                }
                Err(TransferError::Refused { refusal, replayed }) => {
                    assert_eq!(replayed, time > 0);
                    Err(refusal)
                }
                Err(error) => panic!("{error}"),
            };
            let outcome = |answer: &Result<TransferReceipt, Refusal>| {
                answer
                    .as_ref()
                    .map(|receipt| receipt.transfer.id)
                    .map_err(|refusal| *refusal)
            };
            let first = first.get_or_insert_with(|| answer.clone());
            assert_eq!(outcome(first), outcome(&answer));
        }
        first.expect("a step is sent once at least")
    }

    async fn assert_is(&self, model: &Model) {
        self.ledger.assert_sound().await;
        for (index, (owner, _)) in ACCOUNTS.iter().enumerate() {
            let balance = self
                .ledger
                .balance(self.owners[*owner], self.accounts[index])
                .await;
            assert_eq!(balance, model.balances[index], "balance of account {index}");
            assert!((0..=MAX_BALANCE).contains(&balance));
        }
        assert_eq!(self.ledger.transfers().await, model.transfers);
        for (currency, deposited) in &model.deposited {
            let system =
                format!("SELECT balance FROM accounts WHERE is_system AND currency = '{currency}'");
            assert_eq!(self.ledger.number(&system).await, -deposited);
        }
    }
}

/// Sequential steps: the model predicts every response.
async fn check_sequential(backend: Backend, steps: Vec<Step>) {
    let world = World::new(backend).await;
    let mut model = Model::default();
    for (index, step) in steps.iter().enumerate() {
        let answer = world.send(&format!("k{index}"), step).await;
        assert_eq!(answer.map(|_| ()), model.predict(step), "step {index}");
        if model.predict(step).is_ok() {
            model.apply(step);
        }
    }
    world.assert_is(&model).await;
}

/// Concurrent clients with their steps. The repetitions of a step run concurrently as well.
async fn check_concurrent(backend: Backend, clients: Vec<Vec<Step>>) {
    let world = Arc::new(World::new(backend).await);
    let mut model = Model::default();
    for index in 0..ACCOUNTS.len() {
        let opening = Step {
            from: None,
            to: index,
            amount: 50,
            times: 1,
        };
        world
            .send(&format!("opening{index}"), &opening)
            .await
            .expect("an opening balance");
        model.apply(&opening);
    }
    let mut running = Vec::new();
    for (client, steps) in clients.into_iter().enumerate() {
        let world = Arc::clone(&world);
        running.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for (index, step) in steps.into_iter().enumerate() {
                let key = format!("c{client}s{index}");
                let tries = (0..step.times).map(|_| async {
                    let order = world.order(&step);
                    let held = claim(world.owners[0], &key, &order);
                    send_until_free(&world.ledger.store, &order, &held).await
                });
                let answers = futures_util::future::join_all(tries).await;
                let made: BTreeSet<_> = answers
                    .iter()
                    .map(|answer| match answer {
                        Ok(receipt) => Ok(receipt.transfer.id),
                        Err(TransferError::Refused { refusal, .. }) => Err(refusal.as_str()),
                        Err(error) => panic!("{error}"),
                    })
                    .collect();
                assert_eq!(
                    made.len(),
                    1,
                    "every try of a step has the same answer: {made:?}"
                );
                if let Some(Ok(id)) = made.first() {
                    acknowledged.push((*id, step));
                }
            }
            acknowledged
        }));
    }
    let mut ids = BTreeSet::new();
    for client in futures_util::future::join_all(running).await {
        for (id, step) in client.expect("the client ends") {
            assert!(ids.insert(id), "a transfer was acknowledged for two steps");
            model.apply(&step);
        }
    }
    // Every acknowledged transfer is stored exactly once, and there are no others.
    world.assert_is(&model).await;
}

/// Runs a property test. A failure prints how to reproduce it.
fn check<S: Strategy>(strategy: &S, property: impl AsyncFn(S::Value)) {
    let seed: u64 = match std::env::var("LEDGER_SEED") {
        Ok(text) => text.parse().expect("LEDGER_SEED is a number"),
        Err(_) => rand::random(),
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: CASES,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runner.run(strategy, |value| {
        // proptest catches the panic and shrinks the input.
        runtime.block_on(property(value));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("LEDGER_SEED={seed}: {failure}");
    }
}

macro_rules! properties {
    ($($name:ident = $property:ident over $strategy:expr;)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn sqlite() {
                check(&$strategy, async |value| $property(Backend::Sqlite, value).await);
            }

            #[test]
            fn postgres() {
                check(&$strategy, async |value| $property(Backend::Postgres, value).await);
            }
        }
    )* };
}

properties! {
    sequential_histories_match_the_model = check_sequential over vec(step(), 1..40);
    concurrent_histories_keep_every_acknowledged_transfer_exactly_once =
        check_concurrent over vec(vec(step(), 1..8), 2..7);
}
