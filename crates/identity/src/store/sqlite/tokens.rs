//! Refresh tokens on SQLite.

use db::{Db, DbError};
use settings::clock::{from_micros, to_micros};
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;
use workers;

use crate::store::{
    CLEANUP_BATCH, FoundToken, NewFamily, Rotated, Rotation, TokenHash, TokenState, stored_access,
};

pub(super) async fn open_family(db: &Db<Sqlite>, family: NewFamily) -> Result<bool, DbError> {
    db.run("open_refresh_family", async {
        let mut tx = db.begin().await?;
        let valid = sqlx::query_scalar!(
            r#"SELECT id AS "id: Uuid" FROM users WHERE id = ?1 AND password_hash = ?2"#,
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
                "UPDATE users SET password_hash = ?2 WHERE id = ?1",
                family.user,
                rehashed
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

pub(super) async fn rotate(db: &Db<Sqlite>, rotation: Rotation) -> Result<Rotated, DbError> {
    db.run("rotate_refresh_token", async {
        let mut tx = db.begin().await?;
        let outcome = decide(&mut tx, &rotation).await?;
        tx.commit().await?;
        Ok(outcome)
    })
    .await
}

pub(super) async fn revoke_family(
    db: &Db<Sqlite>,
    token: TokenHash,
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

pub(super) async fn remove_expired(db: &Db<Sqlite>, now: OffsetDateTime) -> Result<u64, DbError> {
    let (now, batch) = (to_micros(now), i64::from(CLEANUP_BATCH));
    let mut removed = 0;
    loop {
        let tokens = db
            .run("remove_expired_refresh_tokens", async {
                let mut tx = db.begin().await?;
                let done = sqlx::query!(
                    "DELETE FROM refresh_tokens WHERE token_hash IN (
                     SELECT token_hash FROM refresh_tokens WHERE expires_at <= ?1
                     LIMIT ?2)",
                    now,
                    batch,
                )
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
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
            .run("remove_expired_refresh_families", async {
                let mut tx = db.begin().await?;
                let done = sqlx::query!(
                    "DELETE FROM refresh_families WHERE id IN (
                     SELECT id FROM refresh_families WHERE expires_at <= ?1
                     LIMIT ?2)",
                    now,
                    batch,
                )
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok::<_, DbError>(done.rows_affected())
            })
            .await?;
        if families < u64::from(CLEANUP_BATCH) || workers::stopping() {
            return Ok(removed);
        }
    }
}

async fn insert_token(
    connection: &mut SqliteConnection,
    token: TokenHash,
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

async fn decide(
    connection: &mut SqliteConnection,
    rotation: &Rotation,
) -> Result<Rotated, DbError> {
    let presented = rotation.presented.as_slice();
    let found = sqlx::query!(
        r#"SELECT f.id AS "family: Uuid", f.user_id AS "user: Uuid", f.revoked_at,
           t.expires_at, t.rotated_at, u.role, u.token_epoch
    FROM refresh_tokens t
    JOIN refresh_families f ON f.id = t.family_id
    JOIN users u ON u.id = f.user_id
    WHERE t.token_hash = ?1 AND u.erased_at IS NULL"#,
        presented
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = found else {
        return Ok(Rotated::Refused);
    };
    let (now, expires_at) = (to_micros(rotation.now), to_micros(rotation.expires_at));
    let found = FoundToken {
        revoked: row.revoked_at.is_some(),
        expires_at: from_micros(row.expires_at),
        rotated_at: row.rotated_at.map(from_micros),
    };
    match found.state(rotation.now, rotation.grace) {
        TokenState::Refused => Ok(Rotated::Refused),
        TokenState::WithinGrace => Ok(Rotated::WithinGrace),
        TokenState::Reused => {
            sqlx::query!(
                "UPDATE refresh_families SET revoked_at = ?2 WHERE id = ?1",
                row.family,
                now
            )
            .execute(connection)
            .await?;
            Ok(Rotated::Reused {
                user: row.user,
                family: row.family,
            })
        }
        TokenState::Usable => {
            sqlx::query!(
                "UPDATE refresh_tokens SET rotated_at = ?2 WHERE token_hash = ?1",
                presented,
                now
            )
            .execute(&mut *connection)
            .await?;
            sqlx::query!(
                "UPDATE refresh_families SET expires_at = ?2 WHERE id = ?1",
                row.family,
                expires_at
            )
            .execute(&mut *connection)
            .await?;
            insert_token(connection, rotation.successor, row.family, now, expires_at).await?;
            Ok(Rotated::Done {
                user: row.user,
                access: stored_access(&row.role, row.token_epoch),
            })
        }
    }
}
