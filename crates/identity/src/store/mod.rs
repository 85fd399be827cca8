//! Stores of users and refresh tokens. Each method is one transaction, except for the cleanup.

mod decisions;
#[cfg(feature = "postgres")]
mod postgres;
mod refresh_token;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use db::DbError;
use request::page::PageRequest;
use request::{Problem, Role};
use time::OffsetDateTime;
use uuid::Uuid;

#[cfg(feature = "postgres")]
pub use postgres::PostgresIdentityStore;
pub use refresh_token::{NewTokenFamily, RefreshTokenHash, RotationOutcome, RotationRequest};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteIdentityStore, is_erased};

use super::domain::{Email, Name, Session, User, UserChange, UserFilter};

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
pub const QUERY_TYPES: [&str; 21] = [
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
    "remove_expired_refresh_tokens",
    "remove_expired_refresh_families",
];

/// Users and refresh tokens.
#[async_trait]
pub trait IdentityStore: Send + Sync + 'static {
    /// Adds a user.
    async fn create_user(&self, new: NewUser) -> Result<(), ChangeError>;

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
    ) -> Result<(), ChangeError>;

    /// Changes the role if `expected` accepts the current version. A new role revokes every refresh
    /// token of the user and raises the token epoch.
    async fn change_role(
        &self,
        id: Uuid,
        expected: ExpectedVersion,
        role: Role,
        now: OffsetDateTime,
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
    ) -> Result<(), ChangeError>;

    /// Whether there is an administrator.
    async fn has_administrator(&self) -> Result<bool, DbError>;

    /// Adds the first administrator if there is none. Of several calls at once, one adds its user.
    async fn create_first_administrator(&self, new: NewUser)
    -> Result<FirstAdministrator, DbError>;

    /// Gives the role of an administrator to a user who is not erased. It ends the tokens of the
    /// user like [`IdentityStore::change_role`].
    async fn promote(&self, id: Uuid, now: OffsetDateTime) -> Result<Promotion, DbError>;

    /// Adds a token family with its first token. Returns the number of sessions that it displaced,
    /// or `None` if the password was changed since it was verified, see
    /// [`NewTokenFamily::verified_hash`].
    async fn create_token_family(&self, family: NewTokenFamily) -> Result<Option<u64>, DbError>;

    /// Replaces a refresh token by its successor. Of several calls at once, one succeeds.
    async fn rotate(&self, request: RotationRequest) -> Result<RotationOutcome, DbError>;

    /// Revokes the family of a token and returns its id. An unknown token changes nothing.
    async fn revoke_token_family(
        &self,
        token: RefreshTokenHash,
        now: OffsetDateTime,
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
    ) -> Result<bool, DbError>;

    /// Ends all sessions of a user and raises the token epoch.
    async fn end_sessions(&self, user: Uuid, now: OffsetDateTime) -> Result<(), DbError>;

    /// Removes at most [`CLEANUP_BATCH`] expired refresh tokens. Returns their number.
    async fn remove_token_batch(&self, now: OffsetDateTime) -> Result<u64, DbError>;

    /// Removes at most [`CLEANUP_BATCH`] expired token families. Returns their number.
    async fn remove_family_batch(&self, now: OffsetDateTime) -> Result<u64, DbError>;

    /// Removes expired refresh tokens, then expired families, in batches of short transactions. It
    /// stops between two batches if the worker should stop. Returns the number of tokens.
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
            if families < u64::from(CLEANUP_BATCH) || workers::stopping() {
                return Ok(removed);
            }
        }
    }
}

/// Versions from which a change may start (`If-Match`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Any version.
    Any,
    /// One of these versions. An empty list accepts none.
    OneOf(Vec<i64>),
}

impl ExpectedVersion {
    /// Whether a change may start from this version.
    #[must_use]
    pub fn accepts(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// Result of adding the first administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAdministrator {
    /// The user was added.
    Created,
    /// There is an administrator already.
    NotNeeded,
    /// Another user, who is no administrator, has the address.
    AddressTaken {
        /// The user with the address.
        user: Uuid,
    },
}

/// Result of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// The user is an administrator now.
    Promoted,
    /// The user was an administrator before.
    AlreadyAdministrator,
    /// The user is erased or never existed.
    NoSuchUser,
}

/// Reasons why a user was not changed or erased.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The user is erased or never existed.
    #[error("there is no such user")]
    NoSuchUser,
    /// The version is not an expected one.
    #[error("the user has another version")]
    VersionMismatch,
    /// The password was changed since it was verified.
    #[error("the password was changed since it was verified")]
    PasswordChanged,
    /// Another user has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// The user is the last administrator, who can neither be erased nor lose the role.
    #[error("the user is the last administrator")]
    LastAdministrator,
    /// A hook refused the erasure. The client gets this problem.
    #[error("the erasure was refused")]
    ErasureRefused(Problem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl ChangeError {
    /// Distinguishes a taken address from other failures of the database.
    pub(crate) fn from_write(error: sqlx::Error) -> Self {
        let error = DbError::from(error);
        if error.violates("users_email_key", "users.email") {
            Self::EmailTaken
        } else {
            Self::Database(error)
        }
    }
}

/// The part that another slice has in the erasure of a user. It can refuse the erasure. It changes
/// rows of its slice in the transaction that erases the user.
#[async_trait]
pub trait ErasureHook<B: sqlx::Database>: Send + Sync + 'static {
    /// Changes or removes the rows of the slice that refer to the user.
    ///
    /// # Errors
    /// A refusal or a failure of the database. Both roll back the whole erasure.
    async fn erase(&self, connection: &mut B::Connection, user: Uuid) -> Result<(), ErasureError>;
}

/// Reasons why a user cannot be erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// A hook refused. The client gets this problem.
    #[error("the erasure was refused")]
    Refused(Problem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<ErasureError> for ChangeError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Refused(problem) => Self::ErasureRefused(problem),
            ErasureError::Database(error) => Self::Database(error),
        }
    }
}

/// A row of a user.
pub(crate) struct UserRow {
    pub(crate) id: Uuid,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) version: i64,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: Email::stored(row.email),
            name: Name::stored(row.name),
            role: stored_role(&row.role),
            created_at: row.created_at,
            version: row.version,
        }
    }
}

/// The claims of a user, from the columns of a row.
pub(crate) fn stored_claims(role: &str, epoch: i64) -> AuthorizationClaims {
    AuthorizationClaims {
        role: stored_role(role),
        epoch,
    }
}

/// The role of a stored word. The check of the table admits no unknown word, and the least role
/// would stand in for one.
fn stored_role(text: &str) -> Role {
    Role::parse(text).unwrap_or(Role::User)
}
