//! The rules of the ledger: values and transfers, without database and protocol.

mod fingerprint;
mod transfer;
mod values;

pub use transfer::{LockedAccount, Order, Posting, Refusal, Source, Transfer, post};
pub use values::{
    AccountName, Amount, Currencies, Currency, MAX_AMOUNT, MAX_BALANCE, Reference, parse_id,
};

use time::OffsetDateTime;
use uuid::Uuid;

/// An account as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// UUIDv7.
    pub id: Uuid,
    /// Never changes.
    pub currency: Currency,
    /// Chosen by the owner.
    pub name: String,
    /// Minor units, 0 to [`MAX_BALANCE`].
    pub balance: i64,
    /// Grows with every change.
    pub version: i64,
    /// When it was opened.
    pub created_at: OffsetDateTime,
}

/// A new, empty account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// UUIDv7.
    pub id: Uuid,
    /// The user who may see and spend.
    pub owner: Uuid,
    /// One of the configured currencies.
    pub currency: Currency,
    /// Chosen by the owner.
    pub name: AccountName,
    /// Time of the request.
    pub now: OffsetDateTime,
}

impl NewAccount {
    /// The account in its first version.
    #[must_use]
    pub fn first_version(&self) -> Account {
        Account {
            id: self.id,
            currency: self.currency,
            name: self.name.as_str().to_owned(),
            balance: 0,
            version: 1,
            created_at: self.now,
        }
    }
}
