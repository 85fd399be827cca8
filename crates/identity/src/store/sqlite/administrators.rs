//! Administrators on SQLite.

use db::{Db, DbError};
use request::Role;
use settings::clock::to_micros;
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{insert_user, living_user};
use crate::store::{FirstAdministrator, NewUser, Promotion};

pub(super) async fn exist(db: &Db<Sqlite>) -> Result<bool, DbError> {
    db.run("has_administrator", async {
        let mut connection = db.acquire().await?;
        one_exists(&mut connection).await
    })
    .await
}

async fn one_exists(connection: &mut SqliteConnection) -> Result<bool, DbError> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin') AS "exists!: bool""#
    )
    .fetch_one(connection)
    .await?;
    Ok(exists)
}

pub(super) async fn create_first(
    db: &Db<Sqlite>,
    new: NewUser,
) -> Result<FirstAdministrator, DbError> {
    db.run("create_first_administrator", async {
        let mut tx = db.begin().await?;
        if one_exists(&mut tx).await? {
            return Ok(FirstAdministrator::NotNeeded);
        }
        let email = new.user.email.as_str();
        let holder = sqlx::query_scalar!(
            r#"SELECT id AS "id: Uuid" FROM users WHERE email = ?1"#,
            email
        )
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
    db: &Db<Sqlite>,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Promotion, DbError> {
    db.run("promote_user", async {
        let mut tx = db.begin().await?;
        match living_user(&mut tx, id).await? {
            None => return Ok(Promotion::NoSuchUser),
            Some(user) if user.role == Role::Admin => return Ok(Promotion::AlreadyAdministrator),
            Some(_) => {}
        }
        let now = to_micros(now);
        sqlx::query!(
            "UPDATE users SET role = 'admin', version = version + 1, updated_at = ?2
             WHERE id = ?1",
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
