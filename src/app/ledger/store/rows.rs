//! Rows of the ledger's tables, in the form that both databases return.

use db::DbError;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::ledger::domain::{Account, Currency, Transfer};

/// A time in a row. Postgres has a type for it, SQLite stores microseconds.
pub(super) struct StoredTime(OffsetDateTime);

#[cfg(feature = "postgres")]
impl From<OffsetDateTime> for StoredTime {
    fn from(time: OffsetDateTime) -> Self {
        Self(time)
    }
}

#[cfg(feature = "sqlite")]
impl From<i64> for StoredTime {
    fn from(micros: i64) -> Self {
        Self(settings::clock::from_micros(micros))
    }
}

/// A row of `accounts`.
pub(super) struct AccountRow {
    pub(super) id: Uuid,
    pub(super) currency: String,
    pub(super) name: String,
    pub(super) balance: i64,
    pub(super) version: i64,
    pub(super) created_at: StoredTime,
}

impl TryFrom<AccountRow> for Account {
    type Error = DbError;

    fn try_from(row: AccountRow) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id,
            currency: parse_currency("accounts.currency", &row.currency)?,
            name: row.name,
            balance: row.balance,
            version: row.version,
            created_at: row.created_at.0,
        })
    }
}

/// A row of `transfers`.
pub(super) struct TransferRow {
    pub(super) id: Uuid,
    pub(super) from_account: Uuid,
    pub(super) to_account: Uuid,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) reference: String,
    pub(super) created_at: StoredTime,
}

impl TryFrom<TransferRow> for Transfer {
    type Error = DbError;

    fn try_from(row: TransferRow) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id,
            from_account: row.from_account,
            to_account: row.to_account,
            amount: row.amount,
            currency: parse_currency("transfers.currency", &row.currency)?,
            reference: row.reference,
            created_at: row.created_at.0,
        })
    }
}

/// Parses a currency that this service has written.
pub(super) fn parse_currency(column: &'static str, text: &str) -> Result<Currency, DbError> {
    Currency::parse(text).ok_or_else(|| corrupt(column))
}

/// The error for a row that this service cannot have written.
pub(super) fn corrupt(column: &'static str) -> DbError {
    DbError::Failed(sqlx::Error::Decode(
        format!("{column} holds an unknown value").into(),
    ))
}
