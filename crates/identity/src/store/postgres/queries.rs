//! The queries of Postgres inside a transaction. A family is locked before its tokens.

use db::DbError;
use request::Role;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{api_keys, audit, sessions};
use crate::audit::StoredEvent;
use crate::domain::User;
use crate::store::api_key::NewApiKey;
use crate::store::audit::AuditHead;
use crate::store::queries::Queries;
use crate::store::refresh_token::StoredToken;
use crate::store::{
    NewTokenFamily, NewUser, RefreshTokenHash, RotationRequest, UserRow, stored_claims,
};

impl Queries for PgConnection {
    async fn lock_user(&mut self, id: Uuid) -> Result<Option<User>, DbError> {
        let row = sqlx::query_as!(
            UserRow,
            r#"SELECT id, email AS "email!", name AS "name!", role, created_at, version
               FROM users WHERE id = $1 AND erased_at IS NULL FOR NO KEY UPDATE"#,
            id
        )
        .fetch_optional(self)
        .await?;
        Ok(row.map(User::from))
    }

    async fn lock_password_hash(&mut self, id: Uuid, password_hash: &str) -> Result<bool, DbError> {
        let found = sqlx::query_scalar!(
            "SELECT id FROM users WHERE id = $1 AND password_hash = $2
             FOR NO KEY UPDATE",
            id,
            password_hash,
        )
        .fetch_optional(self)
        .await?;
        Ok(found.is_some())
    }

    async fn insert_user(&mut self, new: &NewUser) -> sqlx::Result<()> {
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
        .execute(self)
        .await?;
        Ok(())
    }

    async fn write_user(&mut self, user: &User, now: OffsetDateTime) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE users SET email = $2, name = $3, version = $4, updated_at = $5
             WHERE id = $1",
            user.id,
            user.email.as_str(),
            user.name.as_str(),
            user.version,
            now,
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn upgrade_password_hash(
        &mut self,
        id: Uuid,
        upgraded_hash: &str,
    ) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE users SET password_hash = $2 WHERE id = $1",
            id,
            upgraded_hash
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn replace_password_hash(
        &mut self,
        id: Uuid,
        verified_hash: &str,
        new_hash: &str,
        now: OffsetDateTime,
    ) -> Result<bool, DbError> {
        let replaced = sqlx::query!(
            "UPDATE users SET password_hash = $3, token_epoch = token_epoch + 1,
                              updated_at = $4
             WHERE id = $1 AND password_hash = $2",
            id,
            verified_hash,
            new_hash,
            now,
        )
        .execute(self)
        .await?;
        Ok(replaced.rows_affected() > 0)
    }

    async fn erase_user(&mut self, id: Uuid, now: OffsetDateTime) -> Result<(), DbError> {
        sqlx::query!("DELETE FROM refresh_families WHERE user_id = $1", id)
            .execute(&mut *self)
            .await?;
        sqlx::query!("DELETE FROM api_keys WHERE user_id = $1", id)
            .execute(&mut *self)
            .await?;
        sqlx::query!(
            "UPDATE users
             SET email = NULL, name = NULL, password_hash = NULL, role = 'user',
                 version = version + 1, updated_at = $2, erased_at = $2
             WHERE id = $1",
            id,
            now,
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn lock_inserts_for(&mut self, user: Uuid) -> Result<(), DbError> {
        sqlx::query!("SELECT pg_advisory_xact_lock(user_lock($1))", user)
            .execute(self)
            .await?;
        Ok(())
    }

    async fn lock_first_administrator(&mut self) -> Result<(), DbError> {
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('first administrator', 0))")
            .execute(self)
            .await?;
        Ok(())
    }

    async fn administrator_exists(&mut self) -> Result<bool, DbError> {
        let exists = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM users WHERE role = 'admin') AS "exists!""#
        )
        .fetch_one(self)
        .await?;
        Ok(exists)
    }

    async fn user_with_address(&mut self, address: &str) -> Result<Option<Uuid>, DbError> {
        let id = sqlx::query_scalar!("SELECT id FROM users WHERE email = $1", address)
            .fetch_optional(self)
            .await?;
        Ok(id)
    }

    async fn other_administrator_exists(&mut self, id: Uuid) -> Result<bool, DbError> {
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('administrators', 0))")
            .execute(&mut *self)
            .await?;
        // A statement of its own sees what the lock has waited for.
        let exists = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM users WHERE role = 'admin' AND id <> $1) AS "exists!""#,
            id
        )
        .fetch_one(self)
        .await?;
        Ok(exists)
    }

    async fn write_role(
        &mut self,
        id: Uuid,
        role: Role,
        now: OffsetDateTime,
    ) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE users SET role = $2, version = version + 1, token_epoch = token_epoch + 1,
                              updated_at = $3
             WHERE id = $1",
            id,
            role.as_str(),
            now,
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn lock_token(
        &mut self,
        request: &RotationRequest,
    ) -> Result<Option<StoredToken>, DbError> {
        let token_hash = request.token.as_slice();
        // The lock of the family serialises decisions about its tokens.
        let family = sqlx::query!(
            "SELECT id, user_id, created_at, revoked_at FROM refresh_families
             WHERE id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1)
             FOR NO KEY UPDATE",
            token_hash
        )
        .fetch_optional(&mut *self)
        .await?;
        let Some(family) = family else {
            return Ok(None);
        };
        // Read after the lock is taken, because a concurrent refresh can have rotated the token
        // before.
        let token = sqlx::query!(
            "SELECT expires_at, rotated_at FROM refresh_tokens WHERE token_hash = $1 FOR UPDATE",
            token_hash
        )
        .fetch_optional(&mut *self)
        .await?;
        let user = sqlx::query!(
            "SELECT role, token_epoch FROM users WHERE id = $1 AND erased_at IS NULL",
            family.user_id
        )
        .fetch_optional(self)
        .await?;
        Ok(token.zip(user).map(|(token, user)| StoredToken {
            family: family.id,
            user: family.user_id,
            claims: stored_claims(&user.role, user.token_epoch),
            created_at: family.created_at,
            revoked: family.revoked_at.is_some(),
            expires_at: token.expires_at,
            rotated_at: token.rotated_at,
        }))
    }

    async fn revoke_oldest_families(
        &mut self,
        user: Uuid,
        keep: u32,
        now: OffsetDateTime,
    ) -> Result<u64, DbError> {
        let revoked = sqlx::query!(
            "UPDATE refresh_families SET revoked_at = $3
             WHERE id IN (
                 SELECT id FROM refresh_families
                 WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $3
                 ORDER BY id DESC OFFSET $2)",
            user,
            i64::from(keep),
            now,
        )
        .execute(self)
        .await?;
        Ok(revoked.rows_affected())
    }

    async fn count_api_keys(&mut self, user: Uuid, now: OffsetDateTime) -> Result<i64, DbError> {
        api_keys::count(self, user, now).await
    }

    async fn insert_api_key(&mut self, new: &NewApiKey) -> Result<(), DbError> {
        api_keys::insert(self, new).await
    }

    async fn revoke_family_of_token(
        &mut self,
        token: RefreshTokenHash,
        now: OffsetDateTime,
    ) -> Result<Option<(Uuid, Uuid)>, DbError> {
        sessions::end_by_token(self, token, now).await
    }

    async fn end_session(
        &mut self,
        user: Uuid,
        session: Uuid,
        now: OffsetDateTime,
    ) -> Result<bool, DbError> {
        sessions::end(self, user, session, now).await
    }

    async fn delete_api_key(&mut self, user: Uuid, id: Uuid) -> Result<bool, DbError> {
        api_keys::delete(self, user, id).await
    }

    async fn record_api_key_use(
        &mut self,
        id: Uuid,
        now: OffsetDateTime,
    ) -> Result<Option<Uuid>, DbError> {
        api_keys::record_use(self, id, now).await
    }

    async fn lock_audit_head(&mut self) -> Result<AuditHead, DbError> {
        audit::read_head(self).await
    }

    async fn insert_audit_event(&mut self, event: &StoredEvent) -> Result<(), DbError> {
        audit::insert(self, event).await
    }

    async fn release_audit_events(&mut self, before: OffsetDateTime) -> Result<u64, DbError> {
        audit::release(self, before).await
    }

    async fn raise_token_epoch(&mut self, user: Uuid) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE users SET token_epoch = token_epoch + 1 WHERE id = $1",
            user
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn insert_family(&mut self, family: &NewTokenFamily) -> Result<(), DbError> {
        sqlx::query!(
            "INSERT INTO refresh_families
                 (id, user_id, created_at, last_used_at, expires_at, device, address_prefix)
             VALUES ($1, $2, $3, $3, $4, $5, $6)",
            family.id,
            family.user,
            family.now,
            family.expires_at,
            family.origin.device.as_deref(),
            family.origin.address_prefix.as_deref(),
        )
        .execute(&mut *self)
        .await?;
        insert_token(self, family.token, family.id, family.now, family.expires_at).await
    }

    async fn revoke_family(&mut self, family: Uuid, now: OffsetDateTime) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE refresh_families SET revoked_at = $2 WHERE id = $1",
            family,
            now
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn revoke_families_of(&mut self, user: Uuid, now: OffsetDateTime) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE refresh_families SET revoked_at = $2
             WHERE user_id = $1 AND revoked_at IS NULL",
            user,
            now,
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn replace_token(
        &mut self,
        family: Uuid,
        request: &RotationRequest,
        expires_at: OffsetDateTime,
    ) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE refresh_tokens SET rotated_at = $2 WHERE token_hash = $1",
            request.token.as_slice(),
            request.now
        )
        .execute(&mut *self)
        .await?;
        sqlx::query!(
            "UPDATE refresh_families
             SET expires_at = $2, last_used_at = $3, device = $4, address_prefix = $5
             WHERE id = $1",
            family,
            expires_at,
            request.now,
            request.origin.device.as_deref(),
            request.origin.address_prefix.as_deref(),
        )
        .execute(&mut *self)
        .await?;
        insert_token(self, request.successor, family, request.now, expires_at).await
    }
}

async fn insert_token(
    connection: &mut PgConnection,
    token: RefreshTokenHash,
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
