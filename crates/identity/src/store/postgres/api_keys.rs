//! API keys on Postgres.

use db::{Db, DbError};
use request::page::PageRequest;
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::ApiKey;
use crate::store::api_key::{ApiKeyRow, NewApiKey, written_scopes};
use crate::store::{CLEANUP_BATCH, StoredApiKey};

pub(super) async fn count(
    connection: &mut PgConnection,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<i64, DbError> {
    let keys = sqlx::query_scalar!(
        r#"SELECT count(*) AS "keys!" FROM api_keys
           WHERE user_id = $1 AND expires_at > $2"#,
        user,
        now,
    )
    .fetch_one(connection)
    .await?;
    Ok(keys)
}

pub(super) async fn insert(connection: &mut PgConnection, new: &NewApiKey) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO api_keys
             (id, user_id, name, secret_hash, scopes, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        new.key.id,
        new.user,
        new.key.name.as_str(),
        new.secret_hash.as_slice(),
        written_scopes(&new.key.scopes),
        new.key.created_at,
        new.key.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut PgConnection,
    user: Uuid,
    id: Uuid,
) -> Result<bool, DbError> {
    let deleted = sqlx::query!(
        "DELETE FROM api_keys WHERE id = $1 AND user_id = $2",
        id,
        user
    )
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

pub(super) async fn record_use(
    connection: &mut PgConnection,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Option<Uuid>, DbError> {
    let user = sqlx::query_scalar!(
        r#"UPDATE api_keys SET last_used_at = $2 WHERE id = $1 RETURNING user_id"#,
        id,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(user)
}

pub(super) async fn list(
    db: &Db<Postgres>,
    user: Uuid,
    page: PageRequest,
    now: OffsetDateTime,
) -> Result<Vec<ApiKey>, DbError> {
    db.transact("list_api_keys", || async {
        let mut connection = db.acquire().await?;
        let rows = sqlx::query!(
            r#"SELECT id, name, scopes, created_at, expires_at, last_used_at FROM api_keys
               WHERE user_id = $1 AND id < $2 AND expires_at > $3
               ORDER BY id DESC LIMIT $4"#,
            user,
            page.after.unwrap_or(Uuid::max()),
            now,
            page.fetch(),
        )
        .fetch_all(&mut *connection)
        .await?;
        let keys = rows.into_iter().map(|row| {
            ApiKey::from(ApiKeyRow {
                id: row.id,
                name: row.name,
                scopes: row.scopes,
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: row.last_used_at,
            })
        });
        Ok(keys.collect())
    })
    .await
}

pub(super) async fn find(db: &Db<Postgres>, id: Uuid) -> Result<Option<StoredApiKey>, DbError> {
    db.transact("api_key", || async {
        let mut connection = db.acquire().await?;
        let row = sqlx::query!(
            r#"SELECT user_id, secret_hash, name, scopes, created_at, expires_at, last_used_at
               FROM api_keys WHERE id = $1"#,
            id
        )
        .fetch_optional(&mut *connection)
        .await?;
        Ok(row.map(|row| StoredApiKey {
            user: row.user_id,
            // The table admits this length only. Another one would equal no hash.
            secret_hash: row.secret_hash.try_into().unwrap_or_default(),
            key: ApiKeyRow {
                id,
                name: row.name,
                scopes: row.scopes,
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: row.last_used_at,
            }
            .into(),
        }))
    })
    .await
}

pub(super) async fn remove_batch(db: &Db<Postgres>, now: OffsetDateTime) -> Result<u64, DbError> {
    db.transact("remove_expired_api_keys", || async {
        let mut connection = db.acquire().await?;
        let deleted = sqlx::query!(
            "DELETE FROM api_keys WHERE id IN (
             SELECT id FROM api_keys WHERE expires_at <= $1
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now,
            i64::from(CLEANUP_BATCH),
        )
        .execute(&mut *connection)
        .await?;
        Ok(deleted.rows_affected())
    })
    .await
}
