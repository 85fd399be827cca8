//! The ledger, independent of protocols. It assigns ids, time and claims to requests and counts the
//! outcomes.

use std::sync::Arc;

use db::DbError;
use prometheus::Registry;
use request::idempotency::{Claim, IdempotencyKey};
use request::page::{Page, PageRequest};
use settings::clock::{SharedClock, new_id};
use time::Duration;
use uuid::Uuid;

use super::domain::{
    Account, AccountName, Amount, Currencies, Currency, NewAccount, Order, Reference, Source,
    Transfer,
};
use super::store::{LedgerStore, OpenError, TransferError, TransferReceipt};
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

/// A request for a transfer, parsed.
#[derive(Debug, Clone)]
pub struct TransferRequest {
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
            metrics: LedgerMetrics::with_all_series(registry)?,
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
    pub async fn get_account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError> {
        self.store.get_account(owner, id).await
    }

    /// A page of the owner's accounts, newest first.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn list_accounts(
        &self,
        owner: Uuid,
        page: PageRequest,
    ) -> Result<Page<Account>, DbError> {
        let accounts = self.store.list_accounts(owner, page).await?;
        Ok(page.page(accounts, |account| account.id))
    }

    /// Makes a transfer for `user`, once for each key of this user.
    ///
    /// # Errors
    /// The reason why there is no transfer.
    pub async fn transfer(
        &self,
        user: Uuid,
        request: TransferRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<TransferReceipt, TransferError> {
        let now = self.clock.now();
        let order = Order {
            id: new_id(),
            source: request.source,
            to_account: request.to_account,
            amount: request.amount,
            reference: request.reference,
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
    pub async fn get_transfer(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError> {
        self.store.get_transfer(user, id).await
    }

    /// A page of the user's transfers, newest first.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn list_transfers(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Page<Transfer>, DbError> {
        let transfers = self.store.list_transfers(user, page).await?;
        Ok(page.page(transfers, |transfer| transfer.id))
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
