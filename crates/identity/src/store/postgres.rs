//! Users and refresh tokens on Postgres. Locks are taken in one order everywhere: the user, a
//! family, the tokens of the family. Other slices call `user_is_erased` before they insert rows for
//! a user. This function in the database shares a lock with [`IdentityStore::erase_user`].

mod administrators;
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use db::{Db, DbError};
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Access, ChangeError, EraseError, ErasureHook, Expected, FirstAdministrator, IdentityStore,
    NewFamily, NewUser, Promotion, Rotated, Rotation, StoredCredentials, TokenHash, UserRow,
    stored_access,
};
use crate::domain::{Email, User, UserChange};

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

async fn lock_user(connection: &mut PgConnection, id: Uuid) -> Result<Option<User>, DbError> {
    let row = sqlx::query_as!(
        UserRow,
        r#"SELECT id, email AS "email!", name AS "name!", role, created_at, version
           FROM users WHERE id = $1 AND erased_at IS NULL FOR NO KEY UPDATE"#,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(User::from))
}

/// Whether a password that was verified before the transaction is still the user's. The caller
/// holds the lock of the user.
async fn is_confirmed(
    connection: &mut PgConnection,
    id: Uuid,
    verified_hash: Option<&str>,
) -> Result<bool, DbError> {
    let Some(hash) = verified_hash else {
        return Ok(true);
    };
    let same = sqlx::query_scalar!(
        "SELECT id FROM users WHERE id = $1 AND password_hash = $2",
        id,
        hash
    )
    .fetch_optional(connection)
    .await?;
    Ok(same.is_some())
}

async fn insert_user(connection: &mut PgConnection, new: &NewUser) -> sqlx::Result<()> {
    let NewUser {
        user,
        password_hash,
    } = new;
    sqlx::query!(
        "INSERT INTO users
             (id, email, name, password_hash, role, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        user.id,
        user.email.as_str(),
        user.name.as_str(),
        password_hash,
        user.role.as_str(),
        user.version,
        user.created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl IdentityStore for PostgresIdentityStore {
    async fn create_user(&self, new: NewUser) -> Result<(), ChangeError> {
        self.db
            .transact("create_user", || async {
                let mut connection = self.db.acquire().await?;
                insert_user(&mut connection, &new)
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

    async fn access(&self, id: Uuid) -> Result<Option<Access>, DbError> {
        self.db
            .transact("user_access", || async {
                let mut connection = self.db.acquire().await?;
                let row = sqlx::query!(
                    "SELECT role, token_epoch FROM users WHERE id = $1 AND erased_at IS NULL",
                    id
                )
                .fetch_optional(&mut *connection)
                .await?;
                Ok(row.map(|row| stored_access(&row.role, row.token_epoch)))
            })
            .await
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
                    access: stored_access(&row.role, row.token_epoch),
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
        expected: Expected,
        change: UserChange,
        now: OffsetDateTime,
    ) -> Result<User, ChangeError> {
        self.db
            .transact("update_user", || async {
                let mut tx = self.db.begin().await?;
                let user = lock_user(&mut tx, id).await?.ok_or(ChangeError::Gone)?;
                if !is_confirmed(&mut tx, id, verified_hash).await? {
                    return Err(ChangeError::Unconfirmed);
                }
                if !expected.accepts(user.version) {
                    return Err(ChangeError::Stale);
                }
                let changed = change.apply(&user);
                if changed == user {
                    return Ok(user);
                }
                sqlx::query!(
                    "UPDATE users SET email = $2, name = $3, version = $4, updated_at = $5
                     WHERE id = $1",
                    id,
                    changed.email.as_str(),
                    changed.name.as_str(),
                    changed.version,
                    now,
                )
                .execute(&mut *tx)
                .await
                .map_err(ChangeError::from_write)?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(changed)
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
                let changed = sqlx::query!(
                    "UPDATE users SET password_hash = $3, token_epoch = token_epoch + 1,
                                      updated_at = $4
                     WHERE id = $1 AND password_hash = $2",
                    id,
                    verified_hash,
                    new_hash,
                    now,
                )
                .execute(&mut *tx)
                .await
                .map_err(DbError::from)?;
                if changed.rows_affected() == 0 {
                    return Err(ChangeError::Unconfirmed);
                }
                sqlx::query!(
                    "UPDATE refresh_families SET revoked_at = $2
                     WHERE user_id = $1 AND revoked_at IS NULL",
                    id,
                    now,
                )
                .execute(&mut *tx)
                .await
                .map_err(DbError::from)?;
                tx.commit().await.map_err(DbError::from)?;
                Ok(())
            })
            .await
    }

    async fn erase_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: Expected,
        now: OffsetDateTime,
    ) -> Result<(), EraseError> {
        self.db
            .transact("erase_user", || async {
                let mut tx = self.db.begin().await?;
                // Waits for inserts for this user that are in progress, so that the erasure sees
                // their rows. Later inserts wait for the erasure and then see it.
                sqlx::query!("SELECT pg_advisory_xact_lock(user_lock($1))", id)
                    .execute(&mut *tx)
                    .await?;
                let user = lock_user(&mut tx, id).await?.ok_or(EraseError::Gone)?;
                if !is_confirmed(&mut tx, id, verified_hash).await? {
                    return Err(EraseError::Unconfirmed);
                }
                if !expected.accepts(user.version) {
                    return Err(EraseError::Stale);
                }
                for hook in &self.hooks {
                    hook.erase(&mut tx, id).await?;
                }
                sqlx::query!("DELETE FROM refresh_families WHERE user_id = $1", id)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query!(
                    "UPDATE users
                     SET email = NULL, name = NULL, password_hash = NULL, role = 'user',
                         version = version + 1, updated_at = $2, erased_at = $2
                     WHERE id = $1",
                    id,
                    now,
                )
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok(())
            })
            .await
    }

    async fn has_administrator(&self) -> Result<bool, DbError> {
        administrators::exist(&self.db).await
    }

    async fn create_first_administrator(
        &self,
        new: NewUser,
    ) -> Result<FirstAdministrator, DbError> {
        administrators::create_first(&self.db, new).await
    }

    async fn promote(&self, id: Uuid, now: OffsetDateTime) -> Result<Promotion, DbError> {
        administrators::promote(&self.db, id, now).await
    }

    async fn open_family(&self, family: NewFamily) -> Result<bool, DbError> {
        tokens::open_family(&self.db, family).await
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, DbError> {
        tokens::rotate(&self.db, rotation).await
    }

    async fn revoke_family(&self, token: TokenHash, now: OffsetDateTime) -> Result<(), DbError> {
        tokens::revoke_family(&self.db, token, now).await
    }

    async fn remove_expired_tokens(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        tokens::remove_expired(&self.db, now).await
    }
}
