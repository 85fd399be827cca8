//! Reads of users on SQLite.

use db::{Db, DbError};
use request::page::PageRequest;
use settings::clock::from_micros;
use sqlx::{Sqlite, SqliteConnection};
use uuid::Uuid;

use crate::domain::{Email, SearchText, User, UserFilter, UserOrder};
use crate::store::{StoredCredentials, UserRow, stored_claims};

/// A row as SQLite stores it, with times as integers.
struct StoredUser {
    id: Uuid,
    email: String,
    name: String,
    role: String,
    created_at: i64,
    version: i64,
}

impl From<StoredUser> for User {
    fn from(row: StoredUser) -> Self {
        Self::from(UserRow {
            id: row.id,
            email: row.email,
            name: row.name,
            role: row.role,
            created_at: from_micros(row.created_at),
            version: row.version,
        })
    }
}

/// A user who is not erased.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: Uuid,
) -> Result<Option<User>, DbError> {
    let row = sqlx::query_as!(
        StoredUser,
        r#"SELECT id AS "id: Uuid", email AS "email!", name AS "name!", role,
                  created_at, version
           FROM users WHERE id = ?1 AND erased_at IS NULL"#,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(User::from))
}

pub(super) async fn user(db: &Db<Sqlite>, id: Uuid) -> Result<Option<User>, DbError> {
    db.run("user", async {
        let mut connection = db.acquire().await?;
        find(&mut connection, id).await
    })
    .await
}

pub(super) async fn credentials(
    db: &Db<Sqlite>,
    email: &Email,
) -> Result<Option<StoredCredentials>, DbError> {
    db.run("user_credentials", async {
        let mut connection = db.acquire().await?;
        let email = email.as_str();
        let row = sqlx::query!(
            r#"SELECT id AS "id: Uuid", role, token_epoch, password_hash AS "password_hash!"
                   FROM users WHERE email = ?1"#,
            email
        )
        .fetch_optional(&mut *connection)
        .await?;
        Ok(row.map(|row| StoredCredentials {
            user: row.id,
            claims: stored_claims(&row.role, row.token_epoch),
            password_hash: row.password_hash,
        }))
    })
    .await
}

pub(super) async fn password_hash(db: &Db<Sqlite>, id: Uuid) -> Result<Option<String>, DbError> {
    db.run("user_password_hash", async {
        let mut connection = db.acquire().await?;
        let hash = sqlx::query_scalar!(
            r#"SELECT password_hash AS "password_hash!"
                   FROM users WHERE id = ?1 AND erased_at IS NULL"#,
            id
        )
        .fetch_optional(&mut *connection)
        .await?;
        Ok(hash)
    })
    .await
}

pub(super) async fn list(
    db: &Db<Sqlite>,
    filter: &UserFilter,
    page: PageRequest,
) -> Result<Vec<User>, DbError> {
    let role = filter.role.map(request::Role::as_str);
    let search = filter.search.as_ref().map(SearchText::as_str);
    let limit = page.fetch();
    db.run("list_users", async {
        let mut connection = db.acquire().await?;
        let rows = match filter.order {
            UserOrder::NewestFirst => {
                let after = page.after.unwrap_or(Uuid::max());
                sqlx::query_as!(
                    StoredUser,
                    r#"SELECT id AS "id: Uuid", email AS "email!", name AS "name!", role,
                              created_at, version
                       FROM users
                       WHERE erased_at IS NULL AND id < ?1 AND (?2 IS NULL OR role = ?2)
                         AND (?3 IS NULL OR instr(email, ?3) > 0 OR instr(lower(name), ?3) > 0)
                       ORDER BY id DESC LIMIT ?4"#,
                    after,
                    role,
                    search,
                    limit,
                )
                .fetch_all(&mut *connection)
                .await
            }
            UserOrder::OldestFirst => {
                let after = page.after.unwrap_or(Uuid::nil());
                sqlx::query_as!(
                    StoredUser,
                    r#"SELECT id AS "id: Uuid", email AS "email!", name AS "name!", role,
                              created_at, version
                       FROM users
                       WHERE erased_at IS NULL AND id > ?1 AND (?2 IS NULL OR role = ?2)
                         AND (?3 IS NULL OR instr(email, ?3) > 0 OR instr(lower(name), ?3) > 0)
                       ORDER BY id LIMIT ?4"#,
                    after,
                    role,
                    search,
                    limit,
                )
                .fetch_all(&mut *connection)
                .await
            }
        };
        Ok(rows?.into_iter().map(User::from).collect())
    })
    .await
}
