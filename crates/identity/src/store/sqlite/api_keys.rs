//! API keys on SQLite.

use db::{Db, DbError};
use request::page::PageRequest;
use settings::clock::{from_micros, to_micros};
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::ApiKey;
use crate::store::api_key::{ApiKeyRow, NewApiKey, written_scopes};
use crate::store::{CLEANUP_BATCH, StoredApiKey};

pub(super) async fn count(
    connection: &mut SqliteConnection,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<i64, DbError> {
    let now = to_micros(now);
    let keys = sqlx::query_scalar!(
        r#"SELECT count(*) AS "keys!: i64" FROM api_keys
           WHERE user_id = ?1 AND expires_at > ?2"#,
        user,
        now,
    )
    .fetch_one(connection)
    .await?;
    Ok(keys)
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    new: &NewApiKey,
) -> Result<(), DbError> {
    let (name, secret_hash) = (new.key.name.as_str(), new.secret_hash.as_slice());
    let scopes = written_scopes(&new.key.scopes);
    let created_at = to_micros(new.key.created_at);
    let expires_at = to_micros(new.key.expires_at);
    sqlx::query!(
        "INSERT INTO api_keys
             (id, user_id, name, secret_hash, scopes, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        new.key.id,
        new.user,
        name,
        secret_hash,
        scopes,
        created_at,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    user: Uuid,
    id: Uuid,
) -> Result<bool, DbError> {
    let deleted = sqlx::query!(
        "DELETE FROM api_keys WHERE id = ?1 AND user_id = ?2",
        id,
        user
    )
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

pub(super) async fn record_use(
    connection: &mut SqliteConnection,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Option<Uuid>, DbError> {
    let now = to_micros(now);
    let user = sqlx::query_scalar!(
        r#"UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1 RETURNING user_id AS "user_id: Uuid""#,
        id,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(user)
}

pub(super) async fn list(
    db: &Db<Sqlite>,
    user: Uuid,
    page: PageRequest,
    now: OffsetDateTime,
) -> Result<Vec<ApiKey>, DbError> {
    let (after, limit) = (page.after.unwrap_or(Uuid::max()), page.fetch());
    let now = to_micros(now);
    db.run("list_api_keys", async {
        let mut connection = db.acquire().await?;
        let rows = sqlx::query!(
            r#"SELECT id AS "id: Uuid", name, scopes, created_at, expires_at, last_used_at FROM api_keys
               WHERE user_id = ?1 AND id < ?2 AND expires_at > ?3
               ORDER BY id DESC LIMIT ?4"#,
            user,
            after,
            now,
            limit,
        )
        .fetch_all(&mut *connection)
        .await?;
        let keys = rows.into_iter().map(|row| {
            ApiKey::from(ApiKeyRow {
                id: row.id,
                name: row.name,
                scopes: row.scopes,
                created_at: from_micros(row.created_at),
                expires_at: from_micros(row.expires_at),
                last_used_at: row.last_used_at.map(from_micros),
            })
        });
        Ok(keys.collect())
    })
    .await
}

pub(super) async fn find(db: &Db<Sqlite>, id: Uuid) -> Result<Option<StoredApiKey>, DbError> {
    db.run("api_key", async {
        let mut connection = db.acquire().await?;
        let row = sqlx::query!(
            r#"SELECT user_id AS "user_id: Uuid", secret_hash, name, scopes, created_at, expires_at, last_used_at
               FROM api_keys WHERE id = ?1"#,
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
                created_at: from_micros(row.created_at),
                expires_at: from_micros(row.expires_at),
                last_used_at: row.last_used_at.map(from_micros),
            }
            .into(),
        }))
    })
    .await
}

pub(super) async fn remove_batch(db: &Db<Sqlite>, now: OffsetDateTime) -> Result<u64, DbError> {
    let (now, batch) = (to_micros(now), i64::from(CLEANUP_BATCH));
    db.run("remove_expired_api_keys", async {
        let mut tx = db.begin().await?;
        let deleted = sqlx::query!(
            "DELETE FROM api_keys WHERE id IN (
             SELECT id FROM api_keys WHERE expires_at <= ?1 LIMIT ?2)",
            now,
            batch,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected())
    })
    .await
}
