//! Storage of accounts, transfers and idempotency keys: one trait, two backends.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use async_trait::async_trait;
use db::DbError;
use http_server::page::PageRequest;
use time::OffsetDateTime;
use uuid::Uuid;

use super::domain::{
    Account, Claim, Currency, Fingerprint, NewAccount, Order, Refusal, Source, Transfer,
};

/// Limit of expired keys that one transaction removes. It is short, so that requests do not wait
/// for it.
pub const EXPIRED_BATCH: i64 = 500;

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

/// The ledger's tables. Every method is one transaction.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// Opens an empty account for an owner who is not erased.
    async fn open_account(&self, account: &NewAccount) -> Result<Account, OpenError>;

    /// An account of this owner.
    async fn account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError>;

    /// The owner's accounts, newest first. One more than the page, if there is one.
    async fn accounts(&self, owner: Uuid, page: PageRequest) -> Result<Vec<Account>, DbError>;

    /// Makes a transfer, or replays the answer of `claim`. The claim is written with the transfer.
    /// It is also written with a refusal, because that is final.
    async fn transfer(&self, order: &Order, claim: Option<&Claim>)
    -> Result<Posted, TransferError>;

    /// A transfer from or to an account of this user.
    async fn transfer_of(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError>;

    /// The user's transfers, newest first. One more than the page, if there is one.
    async fn transfers(&self, user: Uuid, page: PageRequest) -> Result<Vec<Transfer>, DbError>;

    /// Removes expired idempotency keys, [`EXPIRED_BATCH`] in a transaction, and returns their
    /// number.
    async fn remove_expired_idempotency_keys(&self, now: OffsetDateTime) -> Result<u64, DbError>;
}

/// The user has accounts with money and is not erased.
#[derive(Debug, Clone, Copy)]
pub struct StillHoldsMoney;

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

/// A transfer in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
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
    /// The key was used with another request before.
    #[error("the idempotency key belongs to another request")]
    Mismatch,
    /// A request with this key is running.
    #[error("a request with this idempotency key is running")]
    InProgress,
    /// The requesting user is erased. Nothing is stored for the key.
    #[error("the user is erased")]
    Erased,
    /// The database failed. Another try with the same key may succeed. If the commit failed, it is
    /// unknown whether the transfer was made.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// The stored answer of a key.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
struct Recorded {
    fingerprint: Vec<u8>,
    transfer_id: Option<Uuid>,
    refusal: Option<String>,
}

#[cfg(feature = "sqlite")]
impl Recorded {
    /// Returns the transfer of this key, or its stored refusal.
    fn replay(&self, fingerprint: &Fingerprint) -> Result<Uuid, TransferError> {
        if self.fingerprint != fingerprint {
            return Err(TransferError::Mismatch);
        }
        if let Some(transfer) = self.transfer_id {
            return Ok(transfer);
        }
        Err(refused(self.refusal.as_deref(), true))
    }
}

/// Converts a refusal from the database.
fn refused(word: Option<&str>, replayed: bool) -> TransferError {
    match word.and_then(Refusal::parse) {
        Some(refusal) => TransferError::Refused { refusal, replayed },
        None => corrupt("idempotency_keys.refusal").into(),
    }
}

/// The user to whom the rows of a transfer belong: the requesting one. `None` for a deposit without
/// a key, whose rows belong to the owner of the account only.
fn asking(order: &Order, claim: Option<&Claim>) -> Option<Uuid> {
    match (claim, order.source) {
        (Some(claim), _) => Some(claim.user),
        (None, Source::Own { owner, .. }) => Some(owner),
        (None, Source::System) => None,
    }
}

/// Parses a currency that this service has written.
fn currency(column: &'static str, text: &str) -> Result<Currency, DbError> {
    Currency::parse(text).ok_or_else(|| corrupt(column))
}

/// The error for a row that this service cannot have written.
fn corrupt(column: &'static str) -> DbError {
    DbError::Failed(sqlx::Error::Decode(
        format!("{column} holds an unknown value").into(),
    ))
}
