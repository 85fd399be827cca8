//! One transfer. It is one statement and therefore one transaction and one round trip.

use db::DbError;
use settings::clock::new_id;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::ledger::domain::{Claim, MAX_BALANCE, Order, Source, Transfer};
use crate::app::ledger::store::{Posted, TransferError, corrupt, currency, refused};

/// Calls the function `ledger_transfer` of the migrations. It checks the user and claims the key or
/// finds its answer. It locks both accounts in the order of their ids and applies the rules of
/// `domain::post`. It then writes balances, transfer and answer.
pub(super) async fn ask(
    connection: &mut PgConnection,
    order: &Order,
    claim: Option<&Claim>,
) -> Result<Answer, DbError> {
    let (account, owner) = match order.source {
        Source::Own { account, owner } => (Some(account), Some(owner)),
        Source::System => (None, None),
    };
    let answer = sqlx::query_as!(
        Answer,
        r#"SELECT outcome AS "outcome!", replayed AS "replayed!", refusal, id, from_account,
                  to_account, amount, currency, reference, created_at
           FROM ledger_transfer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"#,
        order.id,
        account,
        owner,
        order.to_account,
        order.amount.get(),
        order.reference.as_str(),
        order.now,
        MAX_BALANCE,
        new_id(),
        claim.map(|claim| claim.user),
        claim.map(|claim| claim.key.as_str()),
        claim.map(Claim::lock_number),
        claim.map(|claim| &claim.fingerprint[..]),
        claim.map(|claim| claim.expires_at),
    )
    .fetch_one(connection)
    .await?;
    Ok(answer)
}

/// The row that `ledger_transfer` returns.
pub(super) struct Answer {
    outcome: String,
    replayed: bool,
    refusal: Option<String>,
    id: Option<Uuid>,
    from_account: Option<Uuid>,
    to_account: Option<Uuid>,
    amount: Option<i64>,
    currency: Option<String>,
    reference: Option<String>,
    created_at: Option<OffsetDateTime>,
}

impl Answer {
    pub(super) fn read(self) -> Result<Posted, TransferError> {
        match self.outcome.as_str() {
            "made" => {
                let replayed = self.replayed;
                let transfer = self.transfer().ok_or_else(|| corrupt("ledger_transfer"))?;
                Ok(Posted {
                    transfer: transfer.try_into()?,
                    replayed,
                })
            }
            "refused" => Err(refused(self.refusal.as_deref(), self.replayed)),
            "mismatch" => Err(TransferError::Mismatch),
            "in_progress" => Err(TransferError::InProgress),
            "erased" => Err(TransferError::Erased),
            _ => Err(corrupt("ledger_transfer").into()),
        }
    }

    fn transfer(self) -> Option<TransferRow> {
        Some(TransferRow {
            id: self.id?,
            from_account: self.from_account?,
            to_account: self.to_account?,
            amount: self.amount?,
            currency: self.currency?,
            reference: self.reference?,
            created_at: self.created_at?,
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
    pub(super) created_at: OffsetDateTime,
}

impl TryFrom<TransferRow> for Transfer {
    type Error = DbError;

    fn try_from(row: TransferRow) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id,
            from_account: row.from_account,
            to_account: row.to_account,
            amount: row.amount,
            currency: currency("transfers.currency", &row.currency)?,
            reference: row.reference,
            created_at: row.created_at,
        })
    }
}
