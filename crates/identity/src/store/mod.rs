//! Stores of users, their credentials and the audit trail. Each method is one transaction, except for the cleanup.

mod api_key;
mod audit;
mod change;
mod decisions;
mod implementation;
#[cfg(feature = "postgres")]
mod postgres;
mod queries;
mod refresh_token;
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use db::DbError;
use request::Role;
use request::page::PageRequest;
use time::OffsetDateTime;
use uuid::Uuid;

pub use api_key::{NewApiKey, StoredApiKey};
pub use audit::{AuditFilter, AuditHead};
pub use change::{
    ChangeError, ErasureError, ErasureHook, ExpectedVersion, FirstAdministrator, Promotion,
};
#[cfg(feature = "postgres")]
pub use postgres::PostgresIdentityStore;
pub use refresh_token::{NewTokenFamily, RefreshTokenHash, RotationOutcome, RotationRequest};
pub(crate) use row::{UserRow, stored_claims};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteIdentityStore, is_erased};

use super::audit::{AuditContext, AuditEvent, StoredEvent};
use super::domain::{ApiKey, Email, Session, User, UserChange, UserFilter};

/// Limit of the rows that one transaction of the cleanup removes. The batch is small, so that
/// SQLite's write lock is held for a short time only.
pub const CLEANUP_BATCH: u32 = 500;

/// A user to be created.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The data that clients see.
    pub user: User,
    /// Hash of Argon2id as a PHC string.
    pub password_hash: String,
}

/// The role and the token epoch of a user, which access tokens carry as claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizationClaims {
    /// Role of the user.
    pub role: Role,
    /// Raised when all access tokens of the user end early.
    pub epoch: i64,
}

/// The state that decides over an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessState {
    /// Role and token epoch of the user. `None` for an unknown or erased user.
    pub user: Option<AuthorizationClaims>,
    /// Whether the session of the token has not ended. True for a token without a session.
    pub session_is_open: bool,
}

/// The stored data that a login is verified against.
#[derive(Clone)]
pub struct StoredCredentials {
    /// The user of the credentials.
    pub user: Uuid,
    /// Role and epoch for the access token.
    pub claims: AuthorizationClaims,
    /// Hash of Argon2id as a PHC string.
    pub password_hash: String,
}

/// Values of `query_type` in the metrics of the backends.
pub const QUERY_TYPES: [&str; 32] = [
    "create_user",
    "user",
    "list_users",
    "user_access",
    "user_credentials",
    "user_password_hash",
    "update_user",
    "change_password",
    "change_role",
    "erase_user",
    "has_administrator",
    "create_first_administrator",
    "promote_user",
    "open_refresh_family",
    "rotate_refresh_token",
    "revoke_refresh_family",
    "list_sessions",
    "end_session",
    "end_sessions",
    "create_api_key",
    "list_api_keys",
    "delete_api_key",
    "api_key",
    "record_api_key_use",
    "remove_expired_api_keys",
    "append_audit_event",
    "list_audit_events",
    "audit_head",
    "audit_events_from",
    "expire_audit_events",
    "remove_expired_refresh_tokens",
    "remove_expired_refresh_families",
];

/// Users, their credentials and the audit trail.
#[async_trait]
pub trait IdentityStore: Send + Sync + 'static {
    /// Adds a user.
    async fn create_user(&self, new: NewUser, audit: &AuditContext) -> Result<(), ChangeError>;

    /// A user who is not erased.
    async fn user(&self, id: Uuid) -> Result<Option<User>, DbError>;

    /// The users of a page who match the filter and are not erased, and one more if there is a next
    /// page. It reads the table in the order of ids until the page is full.
    async fn list_users(
        &self,
        filter: &UserFilter,
        page: PageRequest,
    ) -> Result<Vec<User>, DbError>;

    /// The state that decides over an access token: of its user, and of its session if it has one.
    async fn access_state(&self, user: Uuid, session: Option<Uuid>)
    -> Result<AccessState, DbError>;

    /// The credentials of the user with this address.
    async fn credentials(&self, email: &Email) -> Result<Option<StoredCredentials>, DbError>;

    /// The password hash of a user who is not erased.
    async fn password_hash(&self, id: Uuid) -> Result<Option<String>, DbError>;

    /// Changes name or address if `expected` accepts the current version, and `verified_hash`, if
    /// there is one, is still the stored hash.
    async fn update_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: ExpectedVersion,
        change: UserChange,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<User, ChangeError>;

    /// Replaces the password hash, revokes every refresh token of the user and raises the token
    /// epoch. If `verified_hash` is no longer the stored hash, it returns
    /// [`ChangeError::PasswordChanged`].
    async fn change_password(
        &self,
        id: Uuid,
        verified_hash: &str,
        new_hash: &str,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<(), ChangeError>;

    /// Changes the role if `expected` accepts the current version. A new role revokes every refresh
    /// token of the user and raises the token epoch.
    async fn change_role(
        &self,
        id: Uuid,
        expected: ExpectedVersion,
        role: Role,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<User, ChangeError>;

    /// Erases personal data and removes every refresh token, after the hooks of other slices have
    /// agreed, all in one transaction. [`IdentityStore::update_user`] explains `verified_hash` and
    /// `expected`.
    async fn erase_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: ExpectedVersion,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<(), ChangeError>;

    /// Whether there is an administrator.
    async fn has_administrator(&self) -> Result<bool, DbError>;

    /// Adds the first administrator if there is none. Of several calls at once, one adds its user.
    async fn create_first_administrator(
        &self,
        new: NewUser,
        audit: &AuditContext,
    ) -> Result<FirstAdministrator, DbError>;

    /// Gives the role of an administrator to a user who is not erased. It ends the tokens of the
    /// user like [`IdentityStore::change_role`].
    async fn promote(
        &self,
        id: Uuid,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<Promotion, DbError>;

    /// Adds a token family with its first token. Returns the number of sessions that it displaced,
    /// or `None` if the password was changed since it was verified, see
    /// [`NewTokenFamily::verified_hash`].
    async fn create_token_family(
        &self,
        family: NewTokenFamily,
        audit: &AuditContext,
    ) -> Result<Option<u64>, DbError>;

    /// Replaces a refresh token by its successor. Of several calls at once, one succeeds.
    async fn rotate(
        &self,
        request: RotationRequest,
        audit: &AuditContext,
    ) -> Result<RotationOutcome, DbError>;

    /// Revokes the family of a token and returns its id. An unknown token changes nothing.
    async fn revoke_token_family(
        &self,
        token: RefreshTokenHash,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<Option<Uuid>, DbError>;

    /// The sessions of a user on a page that have not ended, newest first, and one more if there is
    /// a next page.
    async fn list_sessions(
        &self,
        user: Uuid,
        page: PageRequest,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, DbError>;

    /// Ends a session of a user. Returns false if the user has no such session.
    async fn end_session(
        &self,
        user: Uuid,
        session: Uuid,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<bool, DbError>;

    /// Ends all sessions of a user and raises the token epoch.
    async fn end_sessions(
        &self,
        user: Uuid,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<(), DbError>;

    /// Adds an API key for a user who is not erased.
    async fn create_api_key(&self, new: NewApiKey, audit: &AuditContext)
    -> Result<(), ChangeError>;

    /// The API keys of a user on a page that have not expired, newest first, and one more if there is
    /// a next page.
    async fn list_api_keys(
        &self,
        user: Uuid,
        page: PageRequest,
        now: OffsetDateTime,
    ) -> Result<Vec<ApiKey>, DbError>;

    /// Removes an API key of a user. Returns false if the user has no such key.
    async fn delete_api_key(
        &self,
        user: Uuid,
        id: Uuid,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<bool, DbError>;

    /// The API key with this id.
    async fn api_key(&self, id: Uuid) -> Result<Option<StoredApiKey>, DbError>;

    /// Writes the time of a use of an API key.
    async fn record_api_key_use(
        &self,
        id: Uuid,
        now: OffsetDateTime,
        audit: &AuditContext,
    ) -> Result<(), DbError>;

    /// Removes at most [`CLEANUP_BATCH`] expired API keys. Returns their number.
    async fn remove_api_key_batch(&self, now: OffsetDateTime) -> Result<u64, DbError>;

    /// Adds an event that belongs to no change, for instance a refusal.
    async fn append_audit_event(&self, event: AuditEvent) -> Result<(), DbError>;

    /// The events of a page, newest first, and one more if there is a next page.
    async fn list_audit_events(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Vec<StoredEvent>, DbError>;

    /// The ends of the audit trail.
    async fn audit_head(&self) -> Result<AuditHead, DbError>;

    /// At most `limit` events from the position `first` to the position `last`, in their order.
    async fn audit_events_from(
        &self,
        first: i64,
        last: i64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, DbError>;

    /// Removes at most [`CLEANUP_BATCH`] events, oldest first, that happened before `before`. The
    /// database keeps events for 30 days at least. Returns their number.
    async fn expire_audit_events(
        &self,
        before: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<u64, DbError>;

    /// Removes at most [`CLEANUP_BATCH`] expired refresh tokens. Returns their number.
    async fn remove_token_batch(&self, now: OffsetDateTime) -> Result<u64, DbError>;

    /// Removes at most [`CLEANUP_BATCH`] expired token families. Returns their number.
    async fn remove_family_batch(&self, now: OffsetDateTime) -> Result<u64, DbError>;

    /// Removes expired refresh tokens, then expired families and API keys, in batches of short
    /// transactions. It stops between two batches if the worker should stop. Returns the number of
    /// refresh tokens.
    async fn remove_expired_tokens(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        let mut removed = 0;
        loop {
            let tokens = self.remove_token_batch(now).await?;
            removed += tokens;
            if workers::stopping() {
                return Ok(removed);
            }
            if tokens < u64::from(CLEANUP_BATCH) {
                break;
            }
        }
        loop {
            let families = self.remove_family_batch(now).await?;
            if workers::stopping() {
                return Ok(removed);
            }
            if families < u64::from(CLEANUP_BATCH) {
                break;
            }
        }
        loop {
            let keys = self.remove_api_key_batch(now).await?;
            if keys < u64::from(CLEANUP_BATCH) || workers::stopping() {
                return Ok(removed);
            }
        }
    }
}
