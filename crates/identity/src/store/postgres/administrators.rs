//! Administrators on Postgres.

use db::{Db, DbError};
use request::Role;
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{insert_user, lock_user};
use crate::store::{FirstAdministrator, NewUser, Promotion};

pub(super) async fn exist(db: &Db<Postgres>) -> Result<bool, DbError> {
    db.transact("has_administrator", || async {
        let mut connection = db.acquire().await?;
        one_exists(&mut connection).await
    })
    .await
}

async fn one_exists(connection: &mut PgConnection) -> Result<bool, DbError> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users WHERE role = 'admin') AS "exists!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(exists)
}

pub(super) async fn create_first(
    db: &Db<Postgres>,
    new: NewUser,
) -> Result<FirstAdministrator, DbError> {
    db.transact("create_first_administrator", || async {
        let mut tx = db.begin().await?;
        // Processes that start at the same time run this one after the other, even if they are
        // configured with different addresses.
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('first administrator', 0))")
            .execute(&mut *tx)
            .await?;
        if one_exists(&mut tx).await? {
            return Ok(FirstAdministrator::NotNeeded);
        }
        let email = new.user.email.as_str();
        let holder = sqlx::query_scalar!("SELECT id FROM users WHERE email = $1", email)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(user) = holder {
            return Ok(FirstAdministrator::AddressTaken { user });
        }
        insert_user(&mut tx, &new).await?;
        tx.commit().await?;
        Ok(FirstAdministrator::Created)
    })
    .await
}

pub(super) async fn promote(
    db: &Db<Postgres>,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Promotion, DbError> {
    db.transact("promote_user", || async {
        let mut tx = db.begin().await?;
        match lock_user(&mut tx, id).await? {
            None => return Ok(Promotion::NoSuchUser),
            Some(user) if user.role == Role::Admin => return Ok(Promotion::AlreadyAdministrator),
            Some(_) => {}
        }
        sqlx::query!(
            "UPDATE users SET role = 'admin', version = version + 1, updated_at = $2
             WHERE id = $1",
            id,
            now,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Promotion::Promoted)
    })
    .await
}
