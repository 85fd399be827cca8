//! Users and refresh tokens on Postgres. Locks are taken in one order everywhere: the user, a
//! family, the tokens of the family. Other slices call `user_is_erased` before they insert rows for
//! a user. This function in the database shares a lock with [`IdentityStore::erase_user`].

mod list;
mod queries;
mod sessions;
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use db::{Db, DbError};
use request::Role;
use request::page::PageRequest;
use sqlx::Postgres;
use time::OffsetDateTime;
use uuid::Uuid;

use super::decisions::{self, Queries as _};
use super::{
    AccessState, ChangeError, ErasureHook, ExpectedVersion, FirstAdministrator, IdentityStore,
    NewTokenFamily, NewUser, Promotion, RefreshTokenHash, RotationOutcome, RotationRequest,
    StoredCredentials, UserRow, stored_claims,
};
use crate::domain::{Email, Session, User, UserChange, UserFilter};

/// The store on Postgres.
pub struct PostgresIdentityStore {
    db: Db<Postgres>,
    hooks: Vec<Arc<dyn ErasureHook<Postgres>>>,
}

impl PostgresIdentityStore {
    /// A store whose erasures run these hooks.
    #[must_use]
    pub fn new(db: Db<Postgres>, hooks: Vec<Arc<dyn ErasureHook<Postgres>>>) -> Self {
        Self { db, hooks }
    }
}

#[async_trait]
impl IdentityStore for PostgresIdentityStore {
    async fn create_user(&self, new: NewUser) -> Result<(), ChangeError> {
        self.db
            .transact("create_user", || async {
                let mut connection = self.db.acquire().await?;
                connection
                    .insert_user(&new)
                    .await
                    .map_err(ChangeError::from_write)?;
                Ok(())
            })
            .await
    }

    async fn user(&self, id: Uuid) -> Result<Option<User>, DbError> {
        self.db
            .transact("user", || async {
                let mut connection = self.db.acquire().await?;
                let row = sqlx::query_as!(
                    UserRow,
                    r#"SELECT id, email AS "email!", name AS "name!", role, created_at, version
                       FROM users WHERE id = $1 AND erased_at IS NULL"#,
                    id
                )
                .fetch_optional(&mut *connection)
                .await?;
                Ok(row.map(User::from))
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
            .transact("user_credentials", || async {
                let mut connection = self.db.acquire().await?;
                let row = sqlx::query!(
                    r#"SELECT id, role, token_epoch, password_hash AS "password_hash!"
                       FROM users WHERE email = $1"#,
                    email.as_str()
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
            .transact("user_password_hash", || async {
                let mut connection = self.db.acquire().await?;
                let hash = sqlx::query_scalar!(
                    r#"SELECT password_hash AS "password_hash!"
                       FROM users WHERE id = $1 AND erased_at IS NULL"#,
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
            .transact("update_user", || async {
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
            .transact("change_password", || async {
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
            .transact("change_role", || async {
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
            .transact("erase_user", || async {
                let mut tx = self.db.begin().await?;
                // Waits for inserts for this user that are in progress, so that the erasure sees
                // their rows. Later inserts wait for the erasure and then see it.
                sqlx::query!("SELECT pg_advisory_xact_lock(user_lock($1))", id)
                    .execute(&mut *tx)
                    .await
                    .map_err(DbError::from)?;
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
            .transact("has_administrator", || async {
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
            .transact("create_first_administrator", || async {
                let mut tx = self.db.begin().await?;
                // Processes that start at the same time run this one after the other, even if they
                // are configured with different addresses.
                sqlx::query!(
                    "SELECT pg_advisory_xact_lock(hashtextextended('first administrator', 0))"
                )
                .execute(&mut *tx)
                .await?;
                let outcome = decisions::create_first_administrator(&mut *tx, &new).await?;
                tx.commit().await?;
                Ok(outcome)
            })
            .await
    }

    async fn promote(&self, id: Uuid, now: OffsetDateTime) -> Result<Promotion, DbError> {
        self.db
            .transact("promote_user", || async {
                let mut tx = self.db.begin().await?;
                let outcome = decisions::promote(&mut *tx, id, now).await?;
                tx.commit().await?;
                Ok(outcome)
            })
            .await
    }

    async fn create_token_family(&self, family: NewTokenFamily) -> Result<Option<u64>, DbError> {
        self.db
            .transact("open_refresh_family", || async {
                let mut tx = self.db.begin().await?;
                let displaced = decisions::create_token_family(&mut *tx, &family).await?;
                tx.commit().await?;
                Ok(displaced)
            })
            .await
    }

    async fn rotate(&self, request: RotationRequest) -> Result<RotationOutcome, DbError> {
        self.db
            .transact("rotate_refresh_token", || async {
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
            .transact("end_sessions", || async {
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
