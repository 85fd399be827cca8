//! Users and refresh tokens on SQLite. A transaction takes the write lock at its beginning, so that
//! data cannot change between its reads and its writes.

mod list;
mod queries;
mod sessions;
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use db::{Db, DbError};
use request::Role;
use request::page::PageRequest;
use settings::clock::from_micros;
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::decisions::{self, Queries as _};
use super::{
    AccessState, ChangeError, ErasureHook, ExpectedVersion, FirstAdministrator, IdentityStore,
    NewTokenFamily, NewUser, Promotion, RefreshTokenHash, RotationOutcome, RotationRequest,
    StoredCredentials, UserRow, stored_claims,
};
use crate::domain::{Email, Session, User, UserChange, UserFilter};

/// The store on SQLite.
pub struct SqliteIdentityStore {
    db: Db<Sqlite>,
    hooks: Vec<Arc<dyn ErasureHook<Sqlite>>>,
}

impl SqliteIdentityStore {
    /// A store whose erasures run these hooks.
    #[must_use]
    pub fn new(db: Db<Sqlite>, hooks: Vec<Arc<dyn ErasureHook<Sqlite>>>) -> Self {
        Self { db, hooks }
    }
}

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
async fn find_user(connection: &mut SqliteConnection, id: Uuid) -> Result<Option<User>, DbError> {
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

/// Whether a user is erased. In a write transaction the answer holds until its end, so code that
/// inserts rows for a user calls this first. Rows of users are never removed, so an id without a
/// row never belonged to a user.
///
/// # Errors
/// If the database fails.
pub async fn is_erased(connection: &mut SqliteConnection, user: Uuid) -> Result<bool, DbError> {
    let erased = sqlx::query_scalar!(
        r#"SELECT 1 AS "erased!: i64" FROM users WHERE id = ?1 AND erased_at IS NOT NULL"#,
        user
    )
    .fetch_optional(connection)
    .await?;
    Ok(erased.is_some())
}

#[async_trait]
impl IdentityStore for SqliteIdentityStore {
    async fn create_user(&self, new: NewUser) -> Result<(), ChangeError> {
        self.db
            .run("create_user", async {
                let mut tx = self.db.begin().await?;
                tx.insert_user(&new)
                    .await
                    .map_err(ChangeError::from_write)?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(())
            })
            .await
    }

    async fn user(&self, id: Uuid) -> Result<Option<User>, DbError> {
        self.db
            .run("user", async {
                let mut connection = self.db.acquire().await?;
                find_user(&mut connection, id).await
            })
            .await
    }

    async fn list_users(
        &self,
        filter: &UserFilter,
        page: PageRequest,
    ) -> Result<Vec<User>, DbError> {
        list::users(&self.db, filter, page).await
    }

    async fn access_state(
        &self,
        user: Uuid,
        session: Option<Uuid>,
    ) -> Result<AccessState, DbError> {
        sessions::access_state(&self.db, user, session).await
    }

    async fn credentials(&self, email: &Email) -> Result<Option<StoredCredentials>, DbError> {
        self.db
            .run("user_credentials", async {
                let mut connection = self.db.acquire().await?;
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

    async fn password_hash(&self, id: Uuid) -> Result<Option<String>, DbError> {
        self.db
            .run("user_password_hash", async {
                let mut connection = self.db.acquire().await?;
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

    async fn update_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: ExpectedVersion,
        change: UserChange,
        now: OffsetDateTime,
    ) -> Result<User, ChangeError> {
        self.db
            .run("update_user", async {
                let mut tx = self.db.begin().await?;
                let user =
                    decisions::update_user(&mut *tx, id, verified_hash, &expected, &change, now)
                        .await?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(user)
            })
            .await
    }

    async fn change_password(
        &self,
        id: Uuid,
        verified_hash: &str,
        new_hash: &str,
        now: OffsetDateTime,
    ) -> Result<(), ChangeError> {
        self.db
            .run("change_password", async {
                let mut tx = self.db.begin().await?;
                decisions::change_password(&mut *tx, id, verified_hash, new_hash, now).await?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(())
            })
            .await
    }

    async fn change_role(
        &self,
        id: Uuid,
        expected: ExpectedVersion,
        role: Role,
        now: OffsetDateTime,
    ) -> Result<User, ChangeError> {
        self.db
            .run("change_role", async {
                let mut tx = self.db.begin().await?;
                let user = decisions::change_role(&mut *tx, id, &expected, role, now).await?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(user)
            })
            .await
    }

    async fn erase_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: ExpectedVersion,
        now: OffsetDateTime,
    ) -> Result<(), ChangeError> {
        self.db
            .run("erase_user", async {
                let mut tx = self.db.begin().await?;
                decisions::lock_for_erasure(&mut *tx, id, verified_hash, &expected).await?;
                for hook in &self.hooks {
                    hook.erase(&mut tx, id).await?;
                }
                tx.erase_user(id, now).await?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(())
            })
            .await
    }

    async fn has_administrator(&self) -> Result<bool, DbError> {
        self.db
            .run("has_administrator", async {
                let mut connection = self.db.acquire().await?;
                connection.administrator_exists().await
            })
            .await
    }

    async fn create_first_administrator(
        &self,
        new: NewUser,
    ) -> Result<FirstAdministrator, DbError> {
        self.db
            .run("create_first_administrator", async {
                let mut tx = self.db.begin().await?;
                let outcome = decisions::create_first_administrator(&mut *tx, &new).await?;
                tx.commit().await?;
                Ok(outcome)
            })
            .await
    }

    async fn promote(&self, id: Uuid, now: OffsetDateTime) -> Result<Promotion, DbError> {
        self.db
            .run("promote_user", async {
                let mut tx = self.db.begin().await?;
                let outcome = decisions::promote(&mut *tx, id, now).await?;
                tx.commit().await?;
                Ok(outcome)
            })
            .await
    }

    async fn create_token_family(&self, family: NewTokenFamily) -> Result<Option<u64>, DbError> {
        self.db
            .run("open_refresh_family", async {
                let mut tx = self.db.begin().await?;
                let displaced = decisions::create_token_family(&mut *tx, &family).await?;
                tx.commit().await?;
                Ok(displaced)
            })
            .await
    }

    async fn rotate(&self, request: RotationRequest) -> Result<RotationOutcome, DbError> {
        self.db
            .run("rotate_refresh_token", async {
                let mut tx = self.db.begin().await?;
                let outcome = decisions::rotate(&mut *tx, &request).await?;
                tx.commit().await?;
                Ok(outcome)
            })
            .await
    }

    async fn revoke_token_family(
        &self,
        token: RefreshTokenHash,
        now: OffsetDateTime,
    ) -> Result<Option<Uuid>, DbError> {
        tokens::revoke_family_of(&self.db, token, now).await
    }

    async fn list_sessions(
        &self,
        user: Uuid,
        page: PageRequest,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, DbError> {
        sessions::list(&self.db, user, page, now).await
    }

    async fn end_session(
        &self,
        user: Uuid,
        session: Uuid,
        now: OffsetDateTime,
    ) -> Result<bool, DbError> {
        sessions::end(&self.db, user, session, now).await
    }

    async fn end_sessions(&self, user: Uuid, now: OffsetDateTime) -> Result<(), DbError> {
        self.db
            .run("end_sessions", async {
                let mut tx = self.db.begin().await?;
                decisions::end_sessions(&mut *tx, user, now).await?;
                tx.commit().await?;
                Ok(())
            })
            .await
    }

    async fn remove_token_batch(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        tokens::remove_token_batch(&self.db, now).await
    }

    async fn remove_family_batch(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        tokens::remove_family_batch(&self.db, now).await
    }
}
