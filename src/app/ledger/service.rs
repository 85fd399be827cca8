//! What every protocol asks of the ledger: ids, time and keys are given out here,
//! and outcomes counted.

use std::sync::Arc;

use db::DbError;
use prometheus::Registry;
use settings::clock::{SharedClock, new_id};
use time::Duration;
use uuid::Uuid;

use super::domain::{
    Account, AccountName, Amount, Claim, Currencies, Currency, IdempotencyKey, NewAccount, Order,
    Reference, Source, Transfer,
};
use super::store::{LedgerStore, OpenError, Posted, TransferError};
use super::{Config, LedgerMetrics};
use crate::platform::http::page::{Page, PageRequest};

/// The ledger, on whichever store.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn LedgerStore>,
    clock: SharedClock,
    currencies: Arc<Currencies>,
    idempotency_ttl: Duration,
    metrics: LedgerMetrics,
}

/// A transfer as a client asks for it, parsed.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who pays.
    pub source: Source,
    /// Paid to.
    pub to_account: Uuid,
    /// How much.
    pub amount: Amount,
    /// What it is for.
    pub reference: Reference,
}

impl Ledger {
    /// A ledger that keeps what it knows in `store`.
    ///
    /// # Errors
    /// When a metric is registered already.
    pub fn new(
        config: &Config,
        store: Arc<dyn LedgerStore>,
        clock: SharedClock,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            store,
            clock,
            currencies: Arc::new(Currencies::new(&config.currencies)),
            idempotency_ttl: Duration::try_from(config.idempotency_ttl).unwrap_or(Duration::MAX),
            metrics: LedgerMetrics::born(registry)?,
        })
    }

    /// The currencies that accounts can have.
    #[must_use]
    pub fn currencies(&self) -> &Currencies {
        &self.currencies
    }

    /// Opens an empty account.
    ///
    /// # Errors
    /// [`OpenError::Erased`], and the database's.
    pub async fn open_account(
        &self,
        owner: Uuid,
        currency: Currency,
        name: AccountName,
    ) -> Result<Account, OpenError> {
        let account = NewAccount {
            id: new_id(),
            owner,
            currency,
            name,
            now: self.clock.now(),
        };
        self.store.open_account(&account).await
    }

    /// An account of this owner.
    ///
    /// # Errors
    /// The database's.
    pub async fn account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError> {
        self.store.account(owner, id).await
    }

    /// A page of the owner's accounts, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn accounts(&self, owner: Uuid, page: PageRequest) -> Result<Page<Account>, DbError> {
        let found = self.store.accounts(owner, page).await?;
        Ok(page.page(found, |account| account.id))
    }

    /// Makes a transfer that `user` asks for, once for each key of this user.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn transfer(
        &self,
        user: Uuid,
        asked: Asked,
        key: Option<IdempotencyKey>,
    ) -> Result<Posted, TransferError> {
        let now = self.clock.now();
        let order = Order {
            id: new_id(),
            source: asked.source,
            to_account: asked.to_account,
            amount: asked.amount,
            reference: asked.reference,
            now,
        };
        let claim = key.map(|key| Claim {
            user,
            key,
            fingerprint: order.fingerprint(),
            expires_at: now.saturating_add(self.idempotency_ttl),
        });
        let result = self.store.transfer(&order, claim.as_ref()).await;
        self.metrics.count(&result);
        result
    }

    /// A transfer from or to an account of this user.
    ///
    /// # Errors
    /// The database's.
    pub async fn transfer_of(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError> {
        self.store.transfer_of(user, id).await
    }

    /// A page of the user's transfers, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn transfers(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Page<Transfer>, DbError> {
        let found = self.store.transfers(user, page).await?;
        Ok(page.page(found, |transfer| transfer.id))
    }

    /// Removes idempotency keys that have expired, and says how many they were; the
    /// cleanup worker calls it.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_expired_idempotency_keys(&self) -> Result<u64, DbError> {
        let now = self.clock.now();
        self.store.remove_expired_idempotency_keys(now).await
    }
}
