//! Where accounts, transfers and idempotency keys are kept: one trait, two backends.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use async_trait::async_trait;
use db::DbError;
use time::OffsetDateTime;
use uuid::Uuid;

use super::domain::{
    Account, Claim, Currency, Fingerprint, NewAccount, Order, Refusal, Source, Transfer,
};
use http_server::page::PageRequest;

/// Expired keys that one transaction removes at most: short enough that no request
/// waits for it.
pub const EXPIRED_BATCH: i64 = 500;

/// What the backends measure their methods as (`query_type`).
pub const QUERY_TYPES: [&str; 7] = [
    "open_account",
    "get_account",
    "list_accounts",
    "transfer",
    "get_transfer",
    "list_transfers",
    "remove_expired_idempotency_keys",
];

/// The name of an account whose owner was erased: what the owner had called it may
/// tell who that was.
const CLOSED_NAME: &str = "closed";

/// The ledger's tables. Every method is one transaction.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// Opens an empty account for an owner who is not erased.
    async fn open_account(&self, account: &NewAccount) -> Result<Account, OpenError>;

    /// An account of this owner.
    async fn account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError>;

    /// The owner's accounts, newest first; one more than the page, if there is one.
    async fn accounts(&self, owner: Uuid, page: PageRequest) -> Result<Vec<Account>, DbError>;

    /// Makes a transfer, or answers as it did when `claim` was first seen. The claim
    /// is written with the transfer, and with a refusal too, since that is final.
    async fn transfer(&self, order: &Order, claim: Option<&Claim>)
    -> Result<Posted, TransferError>;

    /// A transfer from or to an account of this user.
    async fn transfer_of(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError>;

    /// The user's transfers, newest first; one more than the page, if there is one.
    async fn transfers(&self, user: Uuid, page: PageRequest) -> Result<Vec<Transfer>, DbError>;

    /// Removes idempotency keys that have expired, [`EXPIRED_BATCH`] a transaction,
    /// and says how many they were.
    async fn remove_expired_idempotency_keys(&self, now: OffsetDateTime) -> Result<u64, DbError>;
}

/// A user whose accounts hold money is not erased.
#[derive(Debug, Clone, Copy)]
pub struct StillHoldsMoney;

/// Why no account was opened.
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

/// A transfer that stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The transfer.
    pub transfer: Transfer,
    /// It was made by an earlier request with the same key.
    pub replayed: bool,
}

/// Why there is no transfer.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Final: the ledger's rules forbid it.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// An earlier request with the same key was refused.
        replayed: bool,
    },
    /// The key came with another request before.
    #[error("the idempotency key belongs to another request")]
    Mismatch,
    /// A request with this key is being carried out.
    #[error("a request with this idempotency key is running")]
    InProgress,
    /// The user who asks is erased; nothing is stored for the key.
    #[error("the user is erased")]
    Erased,
    /// Worth another try with the same key: when the commit itself failed, nobody
    /// knows yet whether the transfer was made.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// What a key was answered.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
struct Recorded {
    fingerprint: Vec<u8>,
    transfer_id: Option<Uuid>,
    refusal: Option<String>,
}

#[cfg(feature = "sqlite")]
impl Recorded {
    /// The transfer that was made with this key.
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

/// A refusal that was read from the database.
fn refused(word: Option<&str>, replayed: bool) -> TransferError {
    match word.and_then(Refusal::parse) {
        Some(refusal) => TransferError::Refused { refusal, replayed },
        None => corrupt("idempotency_keys.refusal").into(),
    }
}

/// The user for whom a transfer's rows are written: the one who asks. None for a
/// deposit without a key, which belongs to nobody but the account's owner.
fn asking(order: &Order, claim: Option<&Claim>) -> Option<Uuid> {
    match (claim, order.source) {
        (Some(claim), _) => Some(claim.user),
        (None, Source::Own { owner, .. }) => Some(owner),
        (None, Source::System) => None,
    }
}

/// Reads a currency that was written by this service.
fn currency(column: &'static str, text: &str) -> Result<Currency, DbError> {
    Currency::parse(text).ok_or_else(|| corrupt(column))
}

/// A row that this service cannot have written.
fn corrupt(column: &'static str) -> DbError {
    DbError::Failed(sqlx::Error::Decode(
        format!("{column} holds an unknown value").into(),
    ))
}
