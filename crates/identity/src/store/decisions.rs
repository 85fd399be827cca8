//! The queries that both backends have, and the decisions between them. The decisions are here, so
//! that the backends contain nothing but SQL and cannot drift apart.

use db::DbError;
use request::Role;
use time::OffsetDateTime;
use uuid::Uuid;

use super::refresh_token::{RefreshTokenState, RotationOutcome, RotationRequest, StoredToken};
use super::{ChangeError, ExpectedVersion, FirstAdministrator, NewTokenFamily, NewUser, Promotion};
use crate::domain::{User, UserChange};

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

    /// Removes the personal data, the role and the refresh tokens of a user.
    fn erase_user(
        &mut self,
        id: Uuid,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), DbError>> + Send;

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

/// Locks a user and checks the preconditions of a change: the user exists, the password was not
/// changed since it was verified, and the version is an expected one.
pub(crate) async fn lock_for_change(
    queries: &mut impl Queries,
    id: Uuid,
    verified_hash: Option<&str>,
    expected: &ExpectedVersion,
) -> Result<User, ChangeError> {
    let user = queries.lock_user(id).await?;
    let user = user.ok_or(ChangeError::NoSuchUser)?;
    if let Some(hash) = verified_hash
        && !queries.lock_password_hash(id, hash).await?
    {
        return Err(ChangeError::PasswordChanged);
    }
    if !expected.accepts(user.version) {
        return Err(ChangeError::VersionMismatch);
    }
    Ok(user)
}

/// Changes name or address. A change to the same values writes nothing.
pub(crate) async fn update_user(
    queries: &mut impl Queries,
    id: Uuid,
    verified_hash: Option<&str>,
    expected: &ExpectedVersion,
    change: &UserChange,
    now: OffsetDateTime,
) -> Result<User, ChangeError> {
    let user = lock_for_change(queries, id, verified_hash, expected).await?;
    let changed = change.apply(&user);
    if changed != user {
        let written = queries.write_user(&changed, now).await;
        written.map_err(ChangeError::from_write)?;
    }
    Ok(changed)
}

/// Replaces the password hash, raises the token epoch and revokes every refresh token of the user.
pub(crate) async fn change_password(
    queries: &mut impl Queries,
    id: Uuid,
    verified_hash: &str,
    new_hash: &str,
    now: OffsetDateTime,
) -> Result<(), ChangeError> {
    let replaced = queries.replace_password_hash(id, verified_hash, new_hash, now);
    if !replaced.await? {
        return Err(ChangeError::PasswordChanged);
    }
    queries.revoke_families_of(id, now).await?;
    Ok(())
}

/// Adds a token family, unless the password was changed since it was verified. Returns the number
/// of sessions that it displaced, or `None` after a change of the password.
pub(crate) async fn create_token_family(
    queries: &mut impl Queries,
    family: &NewTokenFamily,
) -> Result<Option<u64>, DbError> {
    // The lock delays a change of the password until the family exists, so that the change revokes
    // it.
    let unchanged = queries.lock_password_hash(family.user, &family.verified_hash);
    if !unchanged.await? {
        return Ok(None);
    }
    if let Some(upgraded_hash) = &family.upgraded_hash {
        queries
            .upgrade_password_hash(family.user, upgraded_hash)
            .await?;
    }
    let keep = family.max_sessions.saturating_sub(1);
    let displaced = queries.revoke_oldest_families(family.user, keep, family.now);
    let displaced = displaced.await?;
    queries.insert_family(family).await?;
    Ok(Some(displaced))
}

/// Ends all sessions and access tokens of a user.
pub(crate) async fn end_sessions(
    queries: &mut impl Queries,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    queries.raise_token_epoch(user).await?;
    queries.revoke_families_of(user, now).await
}

/// Adds the first administrator if there is none and the address is free.
pub(crate) async fn create_first_administrator(
    queries: &mut impl Queries,
    new: &NewUser,
) -> Result<FirstAdministrator, DbError> {
    if queries.administrator_exists().await? {
        return Ok(FirstAdministrator::NotNeeded);
    }
    let registered = queries.user_with_address(new.user.email.as_str()).await?;
    if let Some(user) = registered {
        return Ok(FirstAdministrator::AddressTaken { user });
    }
    queries.insert_user(new).await?;
    Ok(FirstAdministrator::Created)
}

/// Checks that a user may be erased, apart from the hooks. The user is locked.
pub(crate) async fn lock_for_erasure(
    queries: &mut impl Queries,
    id: Uuid,
    verified_hash: Option<&str>,
    expected: &ExpectedVersion,
) -> Result<(), ChangeError> {
    let user = lock_for_change(queries, id, verified_hash, expected).await?;
    keep_an_administrator(queries, &user).await
}

/// Refuses to remove the last administrator. Without one, no one could appoint another.
async fn keep_an_administrator(
    queries: &mut impl Queries,
    removed: &User,
) -> Result<(), ChangeError> {
    if removed.role == Role::Admin && !queries.other_administrator_exists(removed.id).await? {
        return Err(ChangeError::LastAdministrator);
    }
    Ok(())
}

/// Changes the role of a user. A change to the same role writes nothing.
pub(crate) async fn change_role(
    queries: &mut impl Queries,
    id: Uuid,
    expected: &ExpectedVersion,
    role: Role,
    now: OffsetDateTime,
) -> Result<User, ChangeError> {
    let user = lock_for_change(queries, id, None, expected).await?;
    if user.role == role {
        return Ok(user);
    }
    keep_an_administrator(queries, &user).await?;
    set_role(queries, id, role, now).await?;
    Ok(User {
        role,
        version: user.version + 1,
        ..user
    })
}

/// Writes a new role and ends the tokens that were issued with the earlier one.
async fn set_role(
    queries: &mut impl Queries,
    id: Uuid,
    role: Role,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    queries.write_role(id, role, now).await?;
    queries.revoke_families_of(id, now).await
}

/// Gives a user the role of an administrator.
pub(crate) async fn promote(
    queries: &mut impl Queries,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Promotion, DbError> {
    match queries.lock_user(id).await? {
        None => Ok(Promotion::NoSuchUser),
        Some(user) if user.role == Role::Admin => Ok(Promotion::AlreadyAdministrator),
        Some(_) => {
            set_role(queries, id, Role::Admin, now).await?;
            Ok(Promotion::Promoted)
        }
    }
}

/// Replaces a refresh token by its successor. A token that is reused after the grace period revokes
/// its family.
pub(crate) async fn rotate(
    queries: &mut impl Queries,
    request: &RotationRequest,
) -> Result<RotationOutcome, DbError> {
    let Some(token) = queries.lock_token(request).await? else {
        return Ok(RotationOutcome::Invalid);
    };
    match token.state(request.now, request.grace) {
        RefreshTokenState::Invalid => Ok(RotationOutcome::Invalid),
        RefreshTokenState::WithinGrace => Ok(RotationOutcome::WithinGrace),
        RefreshTokenState::Reused => {
            queries.revoke_family(token.family, request.now).await?;
            Ok(RotationOutcome::Reused {
                user: token.user,
                family: token.family,
            })
        }
        RefreshTokenState::Valid => {
            let session_ends = token.created_at + request.max_age;
            if session_ends <= request.now {
                return Ok(RotationOutcome::Invalid);
            }
            let expires_at = request.expires_at.min(session_ends);
            queries
                .replace_token(token.family, request, expires_at)
                .await?;
            Ok(RotationOutcome::Rotated {
                user: token.user,
                family: token.family,
                claims: token.claims,
            })
        }
    }
}
