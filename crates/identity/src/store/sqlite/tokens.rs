//! Removal of expired tokens and families, on SQLite.

use db::{Db, DbError};
use settings::clock::to_micros;
use sqlx::Sqlite;
use time::OffsetDateTime;

use crate::store::CLEANUP_BATCH;

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
