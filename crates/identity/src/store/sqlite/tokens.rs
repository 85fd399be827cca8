//! Refresh tokens on SQLite.

use db::{Db, DbError};
use settings::clock::to_micros;
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::decisions::Queries as _;
use crate::store::{CLEANUP_BATCH, NewTokenFamily, RefreshTokenHash};

pub(super) async fn create_family(
    db: &Db<Sqlite>,
    family: &NewTokenFamily,
) -> Result<bool, DbError> {
    db.run("open_refresh_family", async {
        let mut tx = db.begin().await?;
        if !tx
            .has_password_hash(family.user, &family.verified_hash)
            .await?
        {
            return Ok(false);
        }
        if let Some(upgraded_hash) = &family.upgraded_hash {
            sqlx::query!(
                "UPDATE users SET password_hash = ?2 WHERE id = ?1",
                family.user,
                upgraded_hash
            )
            .execute(&mut *tx)
            .await?;
        }
        let (now, expires_at) = (to_micros(family.now), to_micros(family.expires_at));
        sqlx::query!(
            "INSERT INTO refresh_families (id, user_id, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4)",
            family.id,
            family.user,
            now,
            expires_at,
        )
        .execute(&mut *tx)
        .await?;
        insert_token(&mut tx, family.token, family.id, now, expires_at).await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

pub(super) async fn revoke_family_of(
    db: &Db<Sqlite>,
    token: RefreshTokenHash,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    db.run("revoke_refresh_family", async {
        let mut tx = db.begin().await?;
        let (token, now) = (token.as_slice(), to_micros(now));
        sqlx::query!(
            "UPDATE refresh_families SET revoked_at = ?2
             WHERE revoked_at IS NULL
               AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = ?1)",
            token,
            now,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    })
    .await
}

pub(super) async fn remove_token_batch(
    db: &Db<Sqlite>,
    now: OffsetDateTime,
) -> Result<u64, DbError> {
    let (now, batch) = (to_micros(now), i64::from(CLEANUP_BATCH));
    db.run("remove_expired_refresh_tokens", async {
        let mut tx = db.begin().await?;
        let deleted = sqlx::query!(
            "DELETE FROM refresh_tokens WHERE token_hash IN (
             SELECT token_hash FROM refresh_tokens WHERE expires_at <= ?1
             LIMIT ?2)",
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

pub(super) async fn remove_family_batch(
    db: &Db<Sqlite>,
    now: OffsetDateTime,
) -> Result<u64, DbError> {
    let (now, batch) = (to_micros(now), i64::from(CLEANUP_BATCH));
    db.run("remove_expired_refresh_families", async {
        let mut tx = db.begin().await?;
        let deleted = sqlx::query!(
            "DELETE FROM refresh_families WHERE id IN (
             SELECT id FROM refresh_families WHERE expires_at <= ?1
             LIMIT ?2)",
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

pub(super) async fn insert_token(
    connection: &mut SqliteConnection,
    token: RefreshTokenHash,
    family: Uuid,
    now: i64,
    expires_at: i64,
) -> Result<(), DbError> {
    let token = token.as_slice();
    sqlx::query!(
        "INSERT INTO refresh_tokens (token_hash, family_id, issued_at, expires_at)
         VALUES (?1, ?2, ?3, ?4)",
        token,
        family,
        now,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
