//! One transfer, inside its transaction.

use db::DbError;
use request::idempotency::Claim;
use settings::clock::{new_id, to_micros};
use sqlx::SqliteConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::ledger::domain::{
    Currency, LockedAccount, Order, Posting, Refusal, Source, Transfer, post,
};
use crate::app::ledger::store::rows::{TransferRow, parse_currency};
use crate::app::ledger::store::{TransferError, TransferReceipt, stored_refusal};

/// The stored answer of a key: the transfer or the refusal.
struct StoredAnswer {
    fingerprint: Vec<u8>,
    transfer_id: Option<Uuid>,
    refusal: Option<String>,
}

/// Returns the stored answer of the key, if there is one and the request is the same.
pub(super) async fn replay(
    connection: &mut SqliteConnection,
    claim: &Claim,
    now: OffsetDateTime,
) -> Result<Option<TransferReceipt>, TransferError> {
    let Some(stored) = stored_answer(connection, claim, now).await? else {
        return Ok(None);
    };
    claim.verify(&stored.fingerprint)?;
    let Some(id) = stored.transfer_id else {
        return Err(stored_refusal(stored.refusal.as_deref(), true));
    };
    Ok(Some(TransferReceipt {
        transfer: transfer_by_id(connection, id).await?,
        replayed: true,
    }))
}

async fn stored_answer(
    connection: &mut SqliteConnection,
    claim: &Claim,
    now: OffsetDateTime,
) -> Result<Option<StoredAnswer>, DbError> {
    let stored = sqlx::query_as!(
        StoredAnswer,
        r#"SELECT fingerprint, transfer_id AS "transfer_id: Uuid", refusal FROM idempotency_keys
           WHERE user_id = ?1 AND key = ?2 AND expires_at > ?3"#,
        claim.user,
        claim.key.as_str(),
        to_micros(now),
    )
    .fetch_optional(connection)
    .await?;
    Ok(stored)
}

/// Stores the answer of a key. In a write transaction, a conflicting row can only be an expired
/// one.
pub(super) async fn store_answer(
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
        claim.fingerprint.as_bytes(),
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
pub(super) async fn execute(
    tx: &mut SqliteConnection,
    order: &Order,
) -> Result<Result<Transfer, Refusal>, DbError> {
    let from = match order.source {
        Source::Own { account, .. } => Some(account),
        Source::System => system_account_for(tx, order).await?,
    };
    let accounts = both_accounts(tx, from, order.to_account).await?;
    let find = |id: Uuid| accounts.iter().find(|account| account.id == id);
    let source = from.and_then(find);
    let posting = match post(order, source, find(order.to_account)) {
        Ok(posting) => posting,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(source) = source else {
        // The rules refuse an order without a source.
        return Ok(Err(Refusal::UnknownSource));
    };
    write_posting(tx, order, source, &posting).await.map(Ok)
}

async fn both_accounts(
    tx: &mut SqliteConnection,
    from: Option<Uuid>,
    to: Uuid,
) -> Result<Vec<LockedAccount>, DbError> {
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
            Ok(LockedAccount {
                id: row.id,
                owner: row.owner_id,
                currency: parse_currency("accounts.currency", &row.currency)?,
                balance: row.balance,
                closed: row.closed,
            })
        })
        .collect()
}

async fn write_posting(
    tx: &mut SqliteConnection,
    order: &Order,
    from: &LockedAccount,
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
    let transfer = order.completed(from);
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
    let code = parse_currency("accounts.currency", &code)?;
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
