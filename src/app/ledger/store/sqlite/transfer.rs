//! One transfer, inside its transaction.

use db::DbError;
use settings::clock::{from_micros, new_id, to_micros};
use sqlx::SqliteConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::ledger::domain::{
    Claim, Currency, Order, Party, Posting, Refusal, Source, Transfer, post,
};
use crate::app::ledger::store::{Posted, Recorded, TransferError, currency};

/// Returns the stored answer of the key, if the order is the same.
pub(super) async fn replayed(
    connection: &mut SqliteConnection,
    claim: &Claim,
    now: OffsetDateTime,
) -> Result<Option<Posted>, TransferError> {
    let Some(recorded) = recorded(connection, claim, now).await? else {
        return Ok(None);
    };
    let id = recorded.replay(&claim.fingerprint)?;
    let transfer = transfer_by_id(connection, id).await?;
    Ok(Some(Posted {
        transfer,
        replayed: true,
    }))
}

async fn recorded(
    tx: &mut SqliteConnection,
    claim: &Claim,
    now: OffsetDateTime,
) -> Result<Option<Recorded>, DbError> {
    let recorded = sqlx::query_as!(
        Recorded,
        r#"SELECT fingerprint, transfer_id AS "transfer_id: Uuid", refusal FROM idempotency_keys
           WHERE user_id = ?1 AND key = ?2 AND expires_at > ?3"#,
        claim.user,
        claim.key.as_str(),
        to_micros(now),
    )
    .fetch_optional(tx)
    .await?;
    Ok(recorded)
}

/// Stores the answer of a key. In a write transaction, a conflicting row can only be an expired
/// one.
pub(super) async fn record(
    tx: &mut SqliteConnection,
    claim: &Claim,
    answer: Result<Uuid, Refusal>,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO idempotency_keys
             (user_id, key, fingerprint, transfer_id, refusal, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (user_id, key) DO UPDATE SET
             fingerprint = EXCLUDED.fingerprint, transfer_id = EXCLUDED.transfer_id,
             refusal = EXCLUDED.refusal, created_at = EXCLUDED.created_at,
             expires_at = EXCLUDED.expires_at",
        claim.user,
        claim.key.as_str(),
        &claim.fingerprint[..],
        answer.ok(),
        answer.err().map(Refusal::as_str),
        to_micros(now),
        to_micros(claim.expires_at),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads both accounts under the write lock, applies the rules, and writes the result.
pub(super) async fn decide(
    tx: &mut SqliteConnection,
    order: &Order,
) -> Result<Result<Transfer, Refusal>, DbError> {
    let from = match order.source {
        Source::Own { account, .. } => Some(account),
        Source::System => system_account_for(tx, order).await?,
    };
    let parties = parties_of(tx, from, order.to_account).await?;
    let find = |id: Uuid| parties.iter().find(|party| party.id == id);
    let source = from.and_then(find);
    let posting = match post(order, source, find(order.to_account)) {
        Ok(posting) => posting,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(source) = source else {
        // The rules refuse an order without a source.
        return Ok(Err(Refusal::UnknownSource));
    };
    write(tx, order, source, &posting).await.map(Ok)
}

async fn parties_of(
    tx: &mut SqliteConnection,
    from: Option<Uuid>,
    to: Uuid,
) -> Result<Vec<Party>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: Uuid", owner_id AS "owner_id: Uuid", currency, balance,
                  closed_at IS NOT NULL AS "closed!: bool"
           FROM accounts WHERE id IN (?1, ?2) ORDER BY id"#,
        from.unwrap_or(to),
        to,
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Party {
                id: row.id,
                owner: row.owner_id,
                currency: currency("accounts.currency", &row.currency)?,
                balance: row.balance,
                closed: row.closed,
            })
        })
        .collect()
}

async fn write(
    tx: &mut SqliteConnection,
    order: &Order,
    from: &Party,
    posting: &Posting,
) -> Result<Transfer, DbError> {
    sqlx::query!(
        "UPDATE accounts SET version = version + 1,
             balance = CASE id WHEN ?1 THEN ?2 ELSE ?4 END
         WHERE id IN (?1, ?3)",
        from.id,
        posting.from_balance,
        order.to_account,
        posting.to_balance,
    )
    .execute(&mut *tx)
    .await?;
    let transfer = order.made(from);
    sqlx::query!(
        "INSERT INTO transfers (id, from_account, to_account, from_owner, to_owner,
                                amount, currency, reference, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        transfer.id,
        transfer.from_account,
        transfer.to_account,
        posting.from_owner,
        posting.to_owner,
        transfer.amount,
        transfer.currency.as_str(),
        transfer.reference,
        to_micros(transfer.created_at),
    )
    .execute(tx)
    .await?;
    Ok(transfer)
}

/// Returns the system account of the target's currency. The first deposit creates it. `None` if
/// there is no target.
async fn system_account_for(
    tx: &mut SqliteConnection,
    order: &Order,
) -> Result<Option<Uuid>, DbError> {
    let target = sqlx::query_scalar!(
        "SELECT currency FROM accounts WHERE id = ?1",
        order.to_account
    );
    let Some(code) = target.fetch_optional(&mut *tx).await? else {
        return Ok(None);
    };
    let code = currency("accounts.currency", &code)?;
    if let Some(id) = system_account(tx, code).await? {
        return Ok(Some(id));
    }
    sqlx::query!(
        "INSERT INTO accounts (id, is_system, currency, name, created_at)
         VALUES (?1, true, ?2, 'system', ?3)
         ON CONFLICT (currency) WHERE is_system DO NOTHING",
        new_id(),
        code.as_str(),
        to_micros(order.now),
    )
    .execute(&mut *tx)
    .await?;
    system_account(tx, code).await
}

async fn system_account(
    tx: &mut SqliteConnection,
    code: Currency,
) -> Result<Option<Uuid>, DbError> {
    let id = sqlx::query_scalar!(
        r#"SELECT id AS "id: Uuid" FROM accounts WHERE is_system AND currency = ?1"#,
        code.as_str(),
    );
    Ok(id.fetch_optional(tx).await?)
}

async fn transfer_by_id(tx: &mut SqliteConnection, id: Uuid) -> Result<Transfer, DbError> {
    sqlx::query_as!(
        TransferRow,
        r#"SELECT id AS "id: Uuid", from_account AS "from_account: Uuid",
                  to_account AS "to_account: Uuid", amount, currency, reference, created_at
           FROM transfers WHERE id = ?1"#,
        id,
    )
    .fetch_one(tx)
    .await?
    .try_into()
}

/// A row of `transfers`.
pub(super) struct TransferRow {
    pub(super) id: Uuid,
    pub(super) from_account: Uuid,
    pub(super) to_account: Uuid,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) reference: String,
    pub(super) created_at: i64,
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
            created_at: from_micros(row.created_at),
        })
    }
}
