//! Sessions on SQLite.

use db::{Db, DbError};
use request::page::PageRequest;
use settings::clock::{from_micros, to_micros};
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Session, SessionOrigin};
use crate::store::{AccessState, RefreshTokenHash, stored_claims};

pub(super) async fn access_state(
    db: &Db<Sqlite>,
    user: Uuid,
    session: Option<Uuid>,
) -> Result<AccessState, DbError> {
    db.run("user_access", async {
        let mut connection = db.acquire().await?;
        let row = sqlx::query!(
            r#"SELECT role, token_epoch,
                      ?2 IS NULL OR EXISTS (
                          SELECT 1 FROM refresh_families
                          WHERE id = ?2 AND user_id = ?1 AND revoked_at IS NULL
                      ) AS "session_is_open!: bool"
               FROM users WHERE id = ?1 AND erased_at IS NULL"#,
            user,
            session,
        )
        .fetch_optional(&mut *connection)
        .await?;
        Ok(AccessState {
            session_is_open: row.as_ref().is_some_and(|row| row.session_is_open),
            user: row.map(|row| stored_claims(&row.role, row.token_epoch)),
        })
    })
    .await
}

pub(super) async fn list(
    db: &Db<Sqlite>,
    user: Uuid,
    page: PageRequest,
    now: OffsetDateTime,
) -> Result<Vec<Session>, DbError> {
    let (after, now, limit) = (
        page.after.unwrap_or(Uuid::max()),
        to_micros(now),
        page.fetch(),
    );
    db.run("list_sessions", async {
        let mut connection = db.acquire().await?;
        let rows = sqlx::query!(
            r#"SELECT id AS "id: Uuid", device, address_prefix, created_at,
                      COALESCE(last_used_at, created_at) AS "last_used_at!: i64"
               FROM refresh_families
               WHERE user_id = ?1 AND id < ?2 AND revoked_at IS NULL AND expires_at > ?3
               ORDER BY id DESC LIMIT ?4"#,
            user,
            after,
            now,
            limit,
        )
        .fetch_all(&mut *connection)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Session {
                id: row.id,
                origin: SessionOrigin {
                    device: row.device,
                    address_prefix: row.address_prefix,
                },
                created_at: from_micros(row.created_at),
                last_used_at: from_micros(row.last_used_at),
            })
            .collect())
    })
    .await
}

pub(super) async fn end_by_token(
    connection: &mut SqliteConnection,
    token: RefreshTokenHash,
    now: OffsetDateTime,
) -> Result<Option<(Uuid, Uuid)>, DbError> {
    let now = to_micros(now);
    let token = token.as_slice();
    let family = sqlx::query!(
        r#"UPDATE refresh_families SET revoked_at = ?2
           WHERE revoked_at IS NULL
             AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = ?1)
           RETURNING id AS "id: Uuid", user_id AS "user_id: Uuid""#,
        token,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(family.map(|family| (family.id, family.user_id)))
}

pub(super) async fn end(
    connection: &mut SqliteConnection,
    user: Uuid,
    session: Uuid,
    now: OffsetDateTime,
) -> Result<bool, DbError> {
    let now = to_micros(now);
    let ended = sqlx::query!(
        "UPDATE refresh_families SET revoked_at = ?3
         WHERE id = ?2 AND user_id = ?1 AND revoked_at IS NULL AND expires_at > ?3",
        user,
        session,
        now,
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}
