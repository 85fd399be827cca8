//! Storage of accounts, transfers and idempotency keys: one trait, two backends.
//!
//! The queries for idempotency keys are here and not beside [`request::idempotency`], because the
//! key and the transfer have to commit together. On Postgres they are even one statement.

#[cfg(feature = "postgres")]
pub mod postgres;
mod rows;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use async_trait::async_trait;
use db::DbError;
use request::idempotency::{Claim, KeyConflict};
use request::page::PageRequest;
use time::OffsetDateTime;
use uuid::Uuid;

use super::domain::{Account, NewAccount, Order, Refusal, Transfer};

/// Limit of expired keys that one transaction removes. It is short, so that requests do not wait
/// for it.
pub const CLEANUP_BATCH: u32 = 500;

/// Names of the store's methods in metrics (`query_type`).
pub const QUERY_TYPES: [&str; 7] = [
    "open_account",
    "get_account",
    "list_accounts",
    "transfer",
    "get_transfer",
    "list_transfers",
    "remove_expired_idempotency_keys",
];

/// Name of an account whose owner was erased. The owner's name for it might identify the owner.
const CLOSED_NAME: &str = "closed";

/// The ledger's tables. Every method is one transaction, except where it says otherwise.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// Opens an empty account for an owner who is not erased.
    async fn open_account(&self, account: &NewAccount) -> Result<Account, OpenError>;

    /// An account of this owner.
    async fn get_account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError>;

    /// The owner's accounts, newest first. One more than the page, if there is one.
    async fn list_accounts(&self, owner: Uuid, page: PageRequest) -> Result<Vec<Account>, DbError>;

    /// Makes a transfer, or replays the answer of `claim`. The claim is written with the transfer.
    /// It is also written with a refusal, because that is final.
    async fn transfer(
        &self,
        order: &Order,
        claim: Option<&Claim>,
    ) -> Result<TransferReceipt, TransferError>;

    /// A transfer from or to an account of this user.
    async fn get_transfer(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError>;

    /// The user's transfers, newest first. One more than the page, if there is one.
    async fn list_transfers(&self, user: Uuid, page: PageRequest)
    -> Result<Vec<Transfer>, DbError>;

    /// Removes [`CLEANUP_BATCH`] expired idempotency keys at most, the oldest first, and returns
    /// their number.
    async fn remove_expired_batch(&self, now: OffsetDateTime) -> Result<u64, DbError>;

    /// Removes expired idempotency keys in batches until none is left or the workers stop, and
    /// returns their number. Each batch is one transaction, so that requests run between them.
    async fn remove_expired_idempotency_keys(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        let mut removed = 0;
        loop {
            let batch = self.remove_expired_batch(now).await?;
            removed += batch;
            if batch < u64::from(CLEANUP_BATCH) || workers::stopping() {
                return Ok(removed);
            }
        }
    }
}

/// The reason why a user cannot be erased: one of the accounts holds money.
#[derive(Debug, Clone, Copy)]
pub struct AccountNotEmpty;

/// The reason why no account was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The owner is erased.
    #[error("the owner is erased")]
    Erased,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The answer to an order that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferReceipt {
    /// The transfer.
    pub transfer: Transfer,
    /// True if an earlier request with the same key made it.
    pub replayed: bool,
}

/// The reason why there is no transfer.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The rules of the ledger forbid the transfer. This is final.
    #[error("{refusal}")]
    Refused {
        /// The reason.
        refusal: Refusal,
        /// True if an earlier request with the same key was refused.
        replayed: bool,
    },
    /// The request cannot use its idempotency key.
    #[error(transparent)]
    KeyConflict(#[from] KeyConflict),
    /// The requesting user is erased. Nothing is stored for the key.
    #[error("the user is erased")]
    Erased,
    /// The database failed. Another try with the same key may succeed. If the commit failed, it is
    /// unknown whether the transfer was made.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// The error for a refusal in the form of [`Refusal::as_str`] from the database.
fn stored_refusal(word: Option<&str>, replayed: bool) -> TransferError {
    match word.and_then(Refusal::parse) {
        Some(refusal) => TransferError::Refused { refusal, replayed },
        None => rows::corrupt("idempotency_keys.refusal").into(),
    }
}
