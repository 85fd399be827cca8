//! The queries inside a transaction, which the connections of both backends implement.

use db::DbError;
use request::Role;
use time::OffsetDateTime;
use uuid::Uuid;

use super::api_key::NewApiKey;
use super::audit::AuditHead;
use super::refresh_token::{RefreshTokenHash, RotationRequest, StoredToken};
use super::{NewTokenFamily, NewUser};
use crate::audit::StoredEvent;
use crate::domain::User;

/// Queries inside a transaction. The connections of both backends implement them.
pub(crate) trait Queries: Send {
    /// A user who is not erased. The user cannot change until the transaction ends.
    fn lock_user(&mut self, id: Uuid)
    -> impl Future<Output = Result<Option<User>, DbError>> + Send;

    /// Whether this is the stored password hash of a user. If it is, the user cannot change until the
    /// transaction ends.
    fn lock_password_hash(
        &mut self,
        id: Uuid,
        password_hash: &str,
    ) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// Adds a user.
    fn insert_user(&mut self, new: &NewUser) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Writes the address, the name and the version of a user.
    fn write_user(
        &mut self,
        user: &User,
        now: OffsetDateTime,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Replaces the password hash after an upgrade of the parameters.
    fn upgrade_password_hash(
        &mut self,
        id: Uuid,
        upgraded_hash: &str,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Replaces the password hash of a new password and raises the token epoch. Returns false if
    /// `verified_hash` is not the stored hash.
    fn replace_password_hash(
        &mut self,
        id: Uuid,
        verified_hash: &str,
        new_hash: &str,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// Removes the personal data, the role, the refresh tokens and the API keys of a user.
    fn erase_user(
        &mut self,
        id: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Waits for inserts for this user that are in progress, so that an erasure sees their rows.
    /// Later inserts wait for the erasure and then see it. Only Postgres has inserts at the same
    /// time.
    fn lock_inserts_for(&mut self, user: Uuid) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Makes processes that start at the same time create the first administrator one after the
    /// other, even if they are configured with different addresses.
    fn lock_first_administrator(&mut self) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Whether there is an administrator.
    fn administrator_exists(&mut self) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// The id of the user with an address.
    fn user_with_address(
        &mut self,
        address: &str,
    ) -> impl Future<Output = Result<Option<Uuid>, DbError>> + Send;

    /// Whether there is an administrator beside this one. The answer holds until the transaction
    /// ends, because transactions that remove an administrator run one after the other.
    fn other_administrator_exists(
        &mut self,
        id: Uuid,
    ) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// Writes the role of a user and raises version and token epoch.
    fn write_role(
        &mut self,
        id: Uuid,
        role: Role,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Finds the token of a rotation. Its family cannot change until the transaction ends. `None`
    /// for an unknown token, and for the token of an erased user.
    fn lock_token(
        &mut self,
        request: &RotationRequest,
    ) -> impl Future<Output = Result<Option<StoredToken>, DbError>> + Send;

    /// Revokes the oldest families of a user, so that `keep` of those that are not revoked stay.
    fn revoke_oldest_families(
        &mut self,
        user: Uuid,
        keep: u32,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<u64, DbError>> + Send;

    /// Adds a token family with its first token.
    fn insert_family(
        &mut self,
        family: &NewTokenFamily,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Revokes a token family.
    fn revoke_family(
        &mut self,
        family: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Revokes all token families of a user.
    fn revoke_families_of(
        &mut self,
        user: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Number of the API keys of a user that have not expired.
    fn count_api_keys(
        &mut self,
        user: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<i64, DbError>> + Send;

    /// Adds an API key.
    fn insert_api_key(
        &mut self,
        new: &NewApiKey,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// The ends of the audit trail. No other transaction adds events until this one ends.
    fn lock_audit_head(&mut self) -> impl Future<Output = Result<AuditHead, DbError>> + Send;

    /// Adds an event to the audit trail and moves the end of the chain to it.
    fn insert_audit_event(
        &mut self,
        event: &StoredEvent,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Revokes the family of a refresh token. Returns its id and its user.
    fn revoke_family_of_token(
        &mut self,
        token: RefreshTokenHash,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Option<(Uuid, Uuid)>, DbError>> + Send;

    /// Revokes a family of a user. Returns false if the user has no such open family.
    fn end_session(
        &mut self,
        user: Uuid,
        session: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// Removes an API key of a user. Returns false if the user has no such key.
    fn delete_api_key(
        &mut self,
        user: Uuid,
        id: Uuid,
    ) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// Writes the time of a use of an API key. Returns its user.
    fn record_api_key_use(
        &mut self,
        id: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Option<Uuid>, DbError>> + Send;

    /// Removes the oldest events of the audit trail that happened before a time.
    fn release_audit_events(
        &mut self,
        before: OffsetDateTime,
    ) -> impl Future<Output = Result<u64, DbError>> + Send;

    /// Raises the token epoch of a user.
    fn raise_token_epoch(&mut self, user: Uuid)
    -> impl Future<Output = Result<(), DbError>> + Send;

    /// Marks the token of a rotation as rotated, adds its successor, prolongs the family and records
    /// its use.
    fn replace_token(
        &mut self,
        family: Uuid,
        request: &RotationRequest,
        expires_at: OffsetDateTime,
    ) -> impl Future<Output = Result<(), DbError>> + Send;
}
