//! Stores of the identity slice: users and refresh tokens, one method a transaction.

#[cfg(feature = "postgres")]
mod postgres;
mod refresh;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use db::DbError;
use request::Problem;
use time::OffsetDateTime;
use uuid::Uuid;

#[cfg(feature = "postgres")]
pub use postgres::PostgresIdentityStore;
pub(crate) use refresh::{FoundToken, TokenState};
pub use refresh::{NewFamily, Rotated, Rotation, TokenHash};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteIdentityStore, is_erased};

use super::domain::{Email, Name, User, UserChange};
use request::Role;

/// Tokens that one transaction of the cleanup removes: few enough that it never
/// holds SQLite's write lock for long.
pub(crate) const CLEANUP_BATCH: u32 = 500;

/// A user about to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// What clients will see.
    pub user: User,
    /// Argon2id, PHC string.
    pub password_hash: String,
}

/// What a user's access tokens are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// What the user may do.
    pub role: Role,
    /// Grows when access tokens end before their time; tokens carry it.
    pub epoch: i64,
}

/// What a login compares with.
#[derive(Clone)]
pub struct StoredCredentials {
    /// Whose they are.
    pub user: Uuid,
    /// Goes into the access token.
    pub access: Access,
    /// Argon2id, PHC string.
    pub password_hash: String,
}

/// What the backends measure their methods as (`query_type`).
pub const QUERY_TYPES: [&str; 16] = [
    "create_user",
    "user",
    "user_access",
    "user_credentials",
    "user_password_hash",
    "update_user",
    "change_password",
    "erase_user",
    "has_administrator",
    "create_first_administrator",
    "promote_user",
    "open_refresh_family",
    "rotate_refresh_token",
    "revoke_refresh_family",
    "remove_expired_refresh_tokens",
    "remove_expired_refresh_families",
];

/// Users and refresh tokens.
#[async_trait]
pub trait IdentityStore: Send + Sync + 'static {
    /// Adds a user.
    async fn create_user(&self, new: NewUser) -> Result<(), ChangeError>;

    /// A user that is not erased.
    async fn user(&self, id: Uuid) -> Result<Option<User>, DbError>;

    /// What holds for a user's access tokens; `None` when there is none, or an erased one.
    async fn access(&self, id: Uuid) -> Result<Option<Access>, DbError>;

    /// What a login with this address compares with.
    async fn credentials(&self, email: &Email) -> Result<Option<StoredCredentials>, DbError>;

    /// The password hash of a user that is not erased.
    async fn password_hash(&self, id: Uuid) -> Result<Option<String>, DbError>;

    /// Changes name or address when `expected` accepts the present version and
    /// `verified_hash`, where there is one, is still the password's.
    async fn update_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: Expected,
        change: UserChange,
        now: OffsetDateTime,
    ) -> Result<User, ChangeError>;

    /// Replaces the password hash, revokes every refresh token of the user and raises the
    /// token epoch, when `verified_hash` is still the present one; else
    /// [`ChangeError::Unconfirmed`].
    async fn change_password(
        &self,
        id: Uuid,
        verified_hash: &str,
        new_hash: &str,
        now: OffsetDateTime,
    ) -> Result<(), ChangeError>;

    /// Erases what is personal and removes every refresh token, after the hooks of
    /// other slices agreed, all in one transaction; see [`IdentityStore::update_user`] for
    /// `verified_hash` and `expected`.
    async fn erase_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: Expected,
        now: OffsetDateTime,
    ) -> Result<(), EraseError>;

    /// Whether there is an administrator.
    async fn has_administrator(&self) -> Result<bool, DbError>;

    /// Adds the first administrator when there is none; of several at once, one is added.
    async fn create_first_administrator(&self, new: NewUser)
    -> Result<FirstAdministrator, DbError>;

    /// Gives a user that is not erased the administrator's role.
    async fn promote(&self, id: Uuid, now: OffsetDateTime) -> Result<Promotion, DbError>;

    /// Starts a family; false when the login is void, see [`NewFamily::verified_hash`].
    async fn open_family(&self, family: NewFamily) -> Result<bool, DbError>;

    /// Replaces a refresh token by its successor; of several at once, one wins.
    async fn rotate(&self, rotation: Rotation) -> Result<Rotated, DbError>;

    /// Revokes the family of a token; nothing when there is none.
    async fn revoke_family(&self, token: TokenHash, now: OffsetDateTime) -> Result<(), DbError>;

    /// Removes refresh tokens that have expired, and families without any; returns
    /// how many tokens. In batches, each a short transaction.
    async fn remove_expired_tokens(&self, now: OffsetDateTime) -> Result<u64, DbError>;
}

/// Which versions a change may start from (`If-Match`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// One of these; an empty list accepts none.
    OneOf(Vec<i64>),
}

impl Expected {
    /// Whether the present version is acceptable.
    #[must_use]
    pub fn accepts(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// What became of the first administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAdministrator {
    /// Added.
    Created,
    /// Not needed: there is an administrator.
    NotNeeded,
    /// Not added: this user has the address and is no administrator.
    AddressTaken {
        /// Who.
        user: Uuid,
    },
}

/// What became of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// The user is an administrator now.
    Promoted,
    /// The user was one before.
    AlreadyAdministrator,
    /// Erased, or never there.
    NoSuchUser,
}

/// Why a user was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Erased, or never there.
    #[error("there is no such user")]
    Gone,
    /// Changed meanwhile.
    #[error("the user has changed")]
    Stale,
    /// The password was changed since it was verified.
    #[error("the password has changed")]
    Unconfirmed,
    /// Another user has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl ChangeError {
    /// Tells a taken address from the database's other failures.
    pub(crate) fn from_write(error: sqlx::Error) -> Self {
        let error = DbError::from(error);
        if error.violates("users_email_key", "users.email") {
            Self::EmailTaken
        } else {
            Self::Database(error)
        }
    }
}

/// Why a user was not erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// Erased already, or never there.
    #[error("there is no such user")]
    Gone,
    /// Changed meanwhile.
    #[error("the user has changed")]
    Stale,
    /// The password was changed since it was verified.
    #[error("the password has changed")]
    Unconfirmed,
    /// A hook refused; the client gets this problem.
    #[error("the erasure was refused")]
    Kept(Problem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// The part of another slice in the erasure of a user: it may refuse, and it changes its
/// own rows in the transaction that erases the user.
#[async_trait]
pub trait ErasureHook<B: sqlx::Database>: Send + Sync + 'static {
    /// # Errors
    /// A refusal, or the database's failure; either rolls everything back.
    async fn erase(&self, connection: &mut B::Connection, user: Uuid) -> Result<(), ErasureError>;
}

/// Why a user cannot be erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// A hook refused; the client gets this problem.
    #[error("the erasure was refused")]
    Kept(Problem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<ErasureError> for EraseError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Kept(problem) => Self::Kept(problem),
            ErasureError::Database(error) => Self::Database(error),
        }
    }
}

impl From<sqlx::Error> for EraseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What a row says of a user.
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

pub(crate) fn stored_access(role: &str, epoch: i64) -> Access {
    Access {
        role: stored_role(role),
        epoch,
    }
}

/// The table's check admits no other word; the least role stands in for one.
fn stored_role(text: &str) -> Role {
    Role::parse(text).unwrap_or(Role::User)
}
