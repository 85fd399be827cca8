//! Revocation by token, and removal of expired tokens, on Postgres.

use db::{Db, DbError};
use sqlx::Postgres;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{CLEANUP_BATCH, RefreshTokenHash};

pub(super) async fn revoke_family_of(
    db: &Db<Postgres>,
    token: RefreshTokenHash,
    now: OffsetDateTime,
) -> Result<Option<Uuid>, DbError> {
    db.transact("revoke_refresh_family", || async {
        let mut connection = db.acquire().await?;
        let family = sqlx::query_scalar!(
            "UPDATE refresh_families SET revoked_at = $2
             WHERE revoked_at IS NULL
               AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1)
             RETURNING id",
            token.as_slice(),
            now,
        )
        .fetch_optional(&mut *connection)
        .await?;
        Ok(family)
    })
    .await
}

pub(super) async fn remove_token_batch(
    db: &Db<Postgres>,
    now: OffsetDateTime,
) -> Result<u64, DbError> {
    let batch = i64::from(CLEANUP_BATCH);
    db.transact("remove_expired_refresh_tokens", || async {
        let mut connection = db.acquire().await?;
        // Rows that are locked by a refresh are left for the next run.
        let deleted = sqlx::query!(
            "DELETE FROM refresh_tokens WHERE token_hash IN (
             SELECT token_hash FROM refresh_tokens WHERE expires_at <= $1
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now,
            batch,
        )
        .execute(&mut *connection)
        .await?;
        Ok(deleted.rows_affected())
    })
    .await
}

pub(super) async fn remove_family_batch(
    db: &Db<Postgres>,
    now: OffsetDateTime,
) -> Result<u64, DbError> {
    let batch = i64::from(CLEANUP_BATCH);
    db.transact("remove_expired_refresh_families", || async {
        let mut connection = db.acquire().await?;
        let deleted = sqlx::query!(
            "DELETE FROM refresh_families WHERE id IN (
             SELECT id FROM refresh_families WHERE expires_at <= $1
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
            now,
            batch,
        )
        .execute(&mut *connection)
        .await?;
        Ok(deleted.rows_affected())
    })
    .await
}
