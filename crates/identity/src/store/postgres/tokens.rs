//! Refresh tokens on Postgres. A family is locked before its tokens.

use db::{Db, DbError};
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;
use workers;

use crate::store::{
    CLEANUP_BATCH, FoundToken, NewFamily, Rotated, Rotation, TokenHash, TokenState, stored_access,
};

pub(super) async fn open_family(db: &Db<Postgres>, family: NewFamily) -> Result<bool, DbError> {
    db.transact("open_refresh_family", || async {
        let mut tx = db.begin().await?;
        // The lock delays a change of the password until the family exists, so that the change
        // revokes it.
        let valid = sqlx::query_scalar!(
            "SELECT id FROM users WHERE id = $1 AND password_hash = $2
             FOR NO KEY UPDATE",
            family.user,
            family.verified_hash,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if valid.is_none() {
            return Ok(false);
        }
        if let Some(rehashed) = &family.rehashed {
            sqlx::query!(
                "UPDATE users SET password_hash = $2 WHERE id = $1",
                family.user,
                rehashed
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

pub(super) async fn rotate(db: &Db<Postgres>, rotation: Rotation) -> Result<Rotated, DbError> {
    db.transact("rotate_refresh_token", || async {
        let mut tx = db.begin().await?;
        let outcome = decide(&mut tx, &rotation).await?;
        tx.commit().await?;
        Ok(outcome)
    })
    .await
}

pub(super) async fn revoke_family(
    db: &Db<Postgres>,
    token: TokenHash,
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

pub(super) async fn remove_expired(db: &Db<Postgres>, now: OffsetDateTime) -> Result<u64, DbError> {
    let batch = i64::from(CLEANUP_BATCH);
    let mut removed = 0;
    loop {
        let tokens = db
            .transact("remove_expired_refresh_tokens", || async {
                let mut connection = db.acquire().await?;
                // Rows that are locked by a refresh are left for the next run.
                let done = sqlx::query!(
                    "DELETE FROM refresh_tokens WHERE token_hash IN (
                     SELECT token_hash FROM refresh_tokens WHERE expires_at <= $1
                     LIMIT $2 FOR UPDATE SKIP LOCKED)",
                    now,
                    batch,
                )
                .execute(&mut *connection)
                .await?;
                Ok::<_, DbError>(done.rows_affected())
            })
            .await?;
        removed += tokens;
        if workers::stopping() {
            return Ok(removed);
        }
        if tokens < u64::from(CLEANUP_BATCH) {
            break;
        }
    }
    loop {
        let families = db
            .transact("remove_expired_refresh_families", || async {
                let mut connection = db.acquire().await?;
                let done = sqlx::query!(
                    "DELETE FROM refresh_families WHERE id IN (
                     SELECT id FROM refresh_families WHERE expires_at <= $1
                     LIMIT $2 FOR UPDATE SKIP LOCKED)",
                    now,
                    batch,
                )
                .execute(&mut *connection)
                .await?;
                Ok::<_, DbError>(done.rows_affected())
            })
            .await?;
        if families < u64::from(CLEANUP_BATCH) || workers::stopping() {
            return Ok(removed);
        }
    }
}

async fn insert_token(
    connection: &mut PgConnection,
    token: TokenHash,
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

async fn decide(connection: &mut PgConnection, rotation: &Rotation) -> Result<Rotated, DbError> {
    let presented = rotation.presented.as_slice();
    // The lock of the family serialises decisions about its tokens.
    let family = sqlx::query!(
        "SELECT id, user_id, revoked_at FROM refresh_families
         WHERE id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1)
         FOR NO KEY UPDATE",
        presented
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(family) = family else {
        return Ok(Rotated::Refused);
    };
    // Read after the lock is taken, because a concurrent refresh can have rotated the token before.
    let token = sqlx::query!(
        "SELECT expires_at, rotated_at FROM refresh_tokens WHERE token_hash = $1 FOR UPDATE",
        presented
    )
    .fetch_optional(&mut *connection)
    .await?;
    let access = sqlx::query!(
        "SELECT role, token_epoch FROM users WHERE id = $1 AND erased_at IS NULL",
        family.user_id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let (Some(token), Some(access)) = (token, access) else {
        return Ok(Rotated::Refused);
    };
    let found = FoundToken {
        revoked: family.revoked_at.is_some(),
        expires_at: token.expires_at,
        rotated_at: token.rotated_at,
    };
    match found.state(rotation.now, rotation.grace) {
        TokenState::Refused => Ok(Rotated::Refused),
        TokenState::WithinGrace => Ok(Rotated::WithinGrace),
        TokenState::Reused => {
            sqlx::query!(
                "UPDATE refresh_families SET revoked_at = $2 WHERE id = $1",
                family.id,
                rotation.now
            )
            .execute(connection)
            .await?;
            Ok(Rotated::Reused {
                user: family.user_id,
                family: family.id,
            })
        }
        TokenState::Usable => {
            sqlx::query!(
                "UPDATE refresh_tokens SET rotated_at = $2 WHERE token_hash = $1",
                presented,
                rotation.now
            )
            .execute(&mut *connection)
            .await?;
            sqlx::query!(
                "UPDATE refresh_families SET expires_at = $2 WHERE id = $1",
                family.id,
                rotation.expires_at
            )
            .execute(&mut *connection)
            .await?;
            insert_token(
                connection,
                rotation.successor,
                family.id,
                rotation.now,
                rotation.expires_at,
            )
            .await?;
            Ok(Rotated::Done {
                user: family.user_id,
                access: stored_access(&access.role, access.token_epoch),
            })
        }
    }
}
