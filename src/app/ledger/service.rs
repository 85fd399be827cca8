//! The ledger, independent of protocols. It assigns ids, time and claims to requests and counts the
//! outcomes.

use std::sync::Arc;

use db::DbError;
use http_server::page::{Page, PageRequest};
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

/// The ledger on one of the stores.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn LedgerStore>,
    clock: SharedClock,
    currencies: Arc<Currencies>,
    idempotency_ttl: Duration,
    metrics: LedgerMetrics,
}

/// A requested transfer, parsed.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The payer.
    pub source: Source,
    /// The account that is paid.
    pub to_account: Uuid,
    /// Amount of the transfer.
    pub amount: Amount,
    /// Purpose of the transfer.
    pub reference: Reference,
}

impl Ledger {
    /// Creates the ledger on a store.
    ///
    /// # Errors
    /// When a metric is already registered.
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
    /// [`OpenError::Erased`], and errors of the database.
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

    /// One account of this owner.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError> {
        self.store.account(owner, id).await
    }

    /// A page of the owner's accounts, newest first.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn accounts(&self, owner: Uuid, page: PageRequest) -> Result<Page<Account>, DbError> {
        let found = self.store.accounts(owner, page).await?;
        Ok(page.page(found, |account| account.id))
    }

    /// Makes a transfer for `user`, once for each key of this user.
    ///
    /// # Errors
    /// The reason why there is no transfer.
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

    /// One transfer from or to an account of this user.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn transfer_of(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError> {
        self.store.transfer_of(user, id).await
    }

    /// A page of the user's transfers, newest first.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn transfers(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Page<Transfer>, DbError> {
        let found = self.store.transfers(user, page).await?;
        Ok(page.page(found, |transfer| transfer.id))
    }

    /// Removes expired idempotency keys and returns their number. The cleanup worker calls it.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn remove_expired_idempotency_keys(&self) -> Result<u64, DbError> {
        let now = self.clock.now();
        self.store.remove_expired_idempotency_keys(now).await
    }
}
