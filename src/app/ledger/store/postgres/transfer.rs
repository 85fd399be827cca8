//! One transfer. It is one statement and therefore one transaction and one round trip.

use db::DbError;
use request::idempotency::{Claim, KeyConflict};
use settings::clock::new_id;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::ledger::domain::{MAX_BALANCE, Order, Source};
use crate::app::ledger::store::rows::{TransferRow, corrupt};
use crate::app::ledger::store::{TransferError, TransferReceipt, stored_refusal};

/// Calls the function `ledger_transfer` of the migrations. It checks the user and claims the key or
/// finds its answer. It locks both accounts in the order of their ids and applies the rules of
/// `domain::post`. It then writes balances, transfer and answer.
pub(super) async fn call(
    connection: &mut PgConnection,
    order: &Order,
    claim: Option<&Claim>,
) -> Result<TransferAnswer, DbError> {
    let (account, owner) = match order.source {
        Source::Own { account, owner } => (Some(account), Some(owner)),
        Source::System => (None, None),
    };
    let answer = sqlx::query_as!(
        TransferAnswer,
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
        claim.map(|claim| claim.fingerprint.as_bytes()),
        claim.map(|claim| claim.expires_at),
    )
    .fetch_one(connection)
    .await?;
    Ok(answer)
}

/// The row that `ledger_transfer` returns.
pub(super) struct TransferAnswer {
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

impl TransferAnswer {
    pub(super) fn into_result(self) -> Result<TransferReceipt, TransferError> {
        match self.outcome.as_str() {
            "made" => {
                let replayed = self.replayed;
                let row = self.row().ok_or_else(|| corrupt("ledger_transfer"))?;
                Ok(TransferReceipt {
                    transfer: row.try_into()?,
                    replayed,
                })
            }
            "refused" => Err(stored_refusal(self.refusal.as_deref(), self.replayed)),
            "mismatch" => Err(KeyConflict::Mismatch.into()),
            "in_progress" => Err(KeyConflict::InProgress.into()),
            "erased" => Err(TransferError::Erased),
            _ => Err(corrupt("ledger_transfer").into()),
        }
    }

    fn row(self) -> Option<TransferRow> {
        Some(TransferRow {
            id: self.id?,
            from_account: self.from_account?,
            to_account: self.to_account?,
            amount: self.amount?,
            currency: self.currency?,
            reference: self.reference?,
            created_at: self.created_at?.into(),
        })
    }
}
