//! Revocation by token, and removal of expired tokens, on SQLite.

use db::{Db, DbError};
use settings::clock::to_micros;
use sqlx::Sqlite;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{CLEANUP_BATCH, RefreshTokenHash};

pub(super) async fn revoke_family_of(
    db: &Db<Sqlite>,
    token: RefreshTokenHash,
    now: OffsetDateTime,
) -> Result<Option<Uuid>, DbError> {
    db.run("revoke_refresh_family", async {
        let mut tx = db.begin().await?;
        let (token, now) = (token.as_slice(), to_micros(now));
        let family = sqlx::query_scalar!(
            r#"UPDATE refresh_families SET revoked_at = ?2
               WHERE revoked_at IS NULL
                 AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = ?1)
               RETURNING id AS "id: Uuid""#,
            token,
            now,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(family)
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
