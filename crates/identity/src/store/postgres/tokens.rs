//! Refresh tokens on Postgres.

use db::{Db, DbError};
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{CLEANUP_BATCH, NewTokenFamily, RefreshTokenHash};

pub(super) async fn create_family(
    db: &Db<Postgres>,
    family: &NewTokenFamily,
) -> Result<bool, DbError> {
    db.transact("open_refresh_family", || async {
        let mut tx = db.begin().await?;
        // The lock delays a change of the password until the family exists, so that the change
        // revokes it.
        let user = sqlx::query_scalar!(
            "SELECT id FROM users WHERE id = $1 AND password_hash = $2
             FOR NO KEY UPDATE",
            family.user,
            family.verified_hash,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if user.is_none() {
            return Ok(false);
        }
        if let Some(upgraded_hash) = &family.upgraded_hash {
            sqlx::query!(
                "UPDATE users SET password_hash = $2 WHERE id = $1",
                family.user,
                upgraded_hash
            )
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query!(
            "INSERT INTO refresh_families (id, user_id, created_at, expires_at)
             VALUES ($1, $2, $3, $4)",
            family.id,
            family.user,
            family.now,
            family.expires_at,
        )
        .execute(&mut *tx)
        .await?;
        insert_token(
            &mut tx,
            family.token,
            family.id,
            family.now,
            family.expires_at,
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

pub(super) async fn revoke_family_of(
    db: &Db<Postgres>,
    token: RefreshTokenHash,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    db.transact("revoke_refresh_family", || async {
        let mut connection = db.acquire().await?;
        sqlx::query!(
            "UPDATE refresh_families SET revoked_at = $2
             WHERE revoked_at IS NULL
               AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1)",
            token.as_slice(),
            now,
        )
        .execute(&mut *connection)
        .await?;
        Ok(())
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

pub(super) async fn insert_token(
    connection: &mut PgConnection,
    token: RefreshTokenHash,
    family: Uuid,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO refresh_tokens (token_hash, family_id, issued_at, expires_at)
         VALUES ($1, $2, $3, $4)",
        token.as_slice(),
        family,
        now,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
