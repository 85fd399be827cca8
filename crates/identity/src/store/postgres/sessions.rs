//! Sessions on Postgres.

use db::{Db, DbError};
use request::page::PageRequest;
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Session, SessionOrigin};
use crate::store::{AccessState, RefreshTokenHash, stored_claims};

pub(super) async fn access_state(
    db: &Db<Postgres>,
    user: Uuid,
    session: Option<Uuid>,
) -> Result<AccessState, DbError> {
    db.transact("user_access", || async {
        let mut connection = db.acquire().await?;
        let row = sqlx::query!(
            r#"SELECT role, token_epoch,
                      $2::uuid IS NULL OR EXISTS (
                          SELECT FROM refresh_families
                          WHERE id = $2 AND user_id = $1 AND revoked_at IS NULL
                      ) AS "session_is_open!"
               FROM users WHERE id = $1 AND erased_at IS NULL"#,
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
    db: &Db<Postgres>,
    user: Uuid,
    page: PageRequest,
    now: OffsetDateTime,
) -> Result<Vec<Session>, DbError> {
    db.transact("list_sessions", || async {
        let mut connection = db.acquire().await?;
        let rows = sqlx::query!(
            r#"SELECT id, device, address_prefix, created_at,
                      COALESCE(last_used_at, created_at) AS "last_used_at!"
               FROM refresh_families
               WHERE user_id = $1 AND id < $2 AND revoked_at IS NULL AND expires_at > $3
               ORDER BY id DESC LIMIT $4"#,
            user,
            page.after.unwrap_or(Uuid::max()),
            now,
            page.fetch(),
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
                created_at: row.created_at,
                last_used_at: row.last_used_at,
            })
            .collect())
    })
    .await
}

pub(super) async fn end_by_token(
    connection: &mut PgConnection,
    token: RefreshTokenHash,
    now: OffsetDateTime,
) -> Result<Option<(Uuid, Uuid)>, DbError> {
    let family = sqlx::query!(
        r#"UPDATE refresh_families SET revoked_at = $2
           WHERE revoked_at IS NULL
             AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1)
           RETURNING id, user_id"#,
        token.as_slice(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(family.map(|family| (family.id, family.user_id)))
}

pub(super) async fn end(
    connection: &mut PgConnection,
    user: Uuid,
    session: Uuid,
    now: OffsetDateTime,
) -> Result<bool, DbError> {
    let ended = sqlx::query!(
        "UPDATE refresh_families SET revoked_at = $3
         WHERE id = $2 AND user_id = $1 AND revoked_at IS NULL AND expires_at > $3",
        user,
        session,
        now,
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}
