//! Decisions between the queries of a transaction. They are here, so that the backends contain
//! nothing but SQL and cannot drift apart.

use db::DbError;
use request::Role;
use time::OffsetDateTime;
use uuid::Uuid;

use super::api_key::written_scopes;
use super::audit::AuditLog;
use super::queries::Queries;
use super::refresh_token::{RefreshTokenHash, RefreshTokenState, RotationOutcome, RotationRequest};
use super::{
    ChangeError, ExpectedVersion, FirstAdministrator, NewApiKey, NewTokenFamily, NewUser, Promotion,
};
use crate::audit::{Action, StoredEvent};
use crate::domain::{User, UserChange};

/// Adds the events of a transaction to the audit trail. It is the last step before the commit,
/// because the lock of the trail serialises transactions from here on.
pub(crate) async fn append_audit_events(
    queries: &mut impl Queries,
    log: &mut AuditLog<'_>,
) -> Result<(), DbError> {
    if log.events.is_empty() {
        return Ok(());
    }
    let head = queries.lock_audit_head().await?;
    let (mut sequence, mut hash) = (head.sequence, head.hash);
    for event in &log.events {
        sequence += 1;
        let stored = StoredEvent::chained(event, sequence, &hash);
        hash = stored.hash;
        queries.insert_audit_event(&stored).await?;
        log.stored.push(stored);
    }
    Ok(())
}

/// Adds a user who registered.
pub(crate) async fn create_user(
    queries: &mut impl Queries,
    new: &NewUser,
    audit: &mut AuditLog<'_>,
) -> Result<(), ChangeError> {
    let inserted = queries.insert_user(new).await;
    inserted.map_err(ChangeError::from_write)?;
    audit.push(audit.event(Action::UserRegistered).subject(new.user.id));
    Ok(())
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
    audit: &mut AuditLog<'_>,
) -> Result<User, ChangeError> {
    let user = lock_for_change(queries, id, verified_hash, expected).await?;
    let changed = change.apply(&user);
    if changed != user {
        let written = queries.write_user(&changed, now).await;
        written.map_err(ChangeError::from_write)?;
        let fields = match (changed.name == user.name, changed.email == user.email) {
            (false, false) => "name, email",
            (true, false) => "email",
            _ => "name",
        };
        audit.push(audit.event(Action::UserChanged).subject(id).detail(fields));
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
    audit: &mut AuditLog<'_>,
) -> Result<(), ChangeError> {
    let replaced = queries.replace_password_hash(id, verified_hash, new_hash, now);
    if !replaced.await? {
        return Err(ChangeError::PasswordChanged);
    }
    queries.revoke_families_of(id, now).await?;
    audit.push(audit.event(Action::PasswordChanged).subject(id));
    Ok(())
}

/// Adds a token family, unless the password was changed since it was verified. Returns the number
/// of sessions that it displaced, or `None` after a change of the password.
pub(crate) async fn create_token_family(
    queries: &mut impl Queries,
    family: &NewTokenFamily,
    audit: &mut AuditLog<'_>,
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
    let event = audit.event(Action::LoggedIn).subject(family.user);
    let event = event.object(family.id);
    audit.push(match displaced {
        0 => event,
        _ => event.detail("displaced the oldest session"),
    });
    Ok(Some(displaced))
}

/// Adds an API key, unless the user is erased or has too many.
pub(crate) async fn create_api_key(
    queries: &mut impl Queries,
    new: &NewApiKey,
    audit: &mut AuditLog<'_>,
) -> Result<(), ChangeError> {
    // The lock serialises keys of one user, and the erasure of the user.
    let user = queries.lock_user(new.user).await?;
    user.ok_or(ChangeError::NoSuchUser)?;
    let keys = queries.count_api_keys(new.user, new.key.created_at).await?;
    if keys >= i64::from(new.max_keys) {
        return Err(ChangeError::TooManyApiKeys);
    }
    queries.insert_api_key(new).await?;
    let event = audit.event(Action::ApiKeyCreated);
    let event = event.subject(new.user).object(new.key.id);
    audit.push(event.detail(&written_scopes(&new.key.scopes)));
    Ok(())
}

/// Ends all sessions and access tokens of a user.
pub(crate) async fn end_sessions(
    queries: &mut impl Queries,
    user: Uuid,
    now: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<(), DbError> {
    queries.raise_token_epoch(user).await?;
    queries.revoke_families_of(user, now).await?;
    audit.push(audit.event(Action::SessionsEnded).subject(user));
    Ok(())
}

/// Adds the first administrator if there is none and the address is free.
pub(crate) async fn create_first_administrator(
    queries: &mut impl Queries,
    new: &NewUser,
    audit: &mut AuditLog<'_>,
) -> Result<FirstAdministrator, DbError> {
    if queries.administrator_exists().await? {
        return Ok(FirstAdministrator::NotNeeded);
    }
    let registered = queries.user_with_address(new.user.email.as_str()).await?;
    if let Some(user) = registered {
        return Ok(FirstAdministrator::AddressTaken { user });
    }
    queries.insert_user(new).await?;
    let event = audit.event(Action::AdministratorCreated);
    audit.push(event.subject(new.user.id));
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

/// Refuses to remove the last administrator, because only administrators appoint another.
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
    audit: &mut AuditLog<'_>,
) -> Result<User, ChangeError> {
    let user = lock_for_change(queries, id, None, expected).await?;
    if user.role == role {
        return Ok(user);
    }
    keep_an_administrator(queries, &user).await?;
    set_role(queries, id, role, now, audit).await?;
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
    audit: &mut AuditLog<'_>,
) -> Result<(), DbError> {
    queries.write_role(id, role, now).await?;
    queries.revoke_families_of(id, now).await?;
    let event = audit.event(Action::RoleChanged).subject(id);
    audit.push(event.detail(role.as_str()));
    Ok(())
}

/// Gives a user the role of an administrator.
pub(crate) async fn promote(
    queries: &mut impl Queries,
    id: Uuid,
    now: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<Promotion, DbError> {
    match queries.lock_user(id).await? {
        None => Ok(Promotion::NoSuchUser),
        Some(user) if user.role == Role::Admin => Ok(Promotion::AlreadyAdministrator),
        Some(_) => {
            set_role(queries, id, Role::Admin, now, audit).await?;
            Ok(Promotion::Promoted)
        }
    }
}

/// Replaces a refresh token by its successor. A token that is reused after the grace period revokes
/// its family.
pub(crate) async fn rotate(
    queries: &mut impl Queries,
    request: &RotationRequest,
    audit: &mut AuditLog<'_>,
) -> Result<RotationOutcome, DbError> {
    let Some(token) = queries.lock_token(request).await? else {
        return Ok(RotationOutcome::Invalid);
    };
    match token.state(request.now, request.grace) {
        RefreshTokenState::Invalid => Ok(RotationOutcome::Invalid),
        RefreshTokenState::WithinGrace => Ok(RotationOutcome::WithinGrace),
        RefreshTokenState::Reused => {
            queries.revoke_family(token.family, request.now).await?;
            let event = audit.event(Action::RefreshTokenReused).refused();
            audit.push(event.subject(token.user).object(token.family));
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
            let event = audit.event(Action::SessionRefreshed);
            audit.push(event.subject(token.user).object(token.family));
            Ok(RotationOutcome::Rotated {
                user: token.user,
                family: token.family,
                claims: token.claims,
            })
        }
    }
}

/// Erases a user who is locked, after the hooks have agreed.
pub(crate) async fn erase_user(
    queries: &mut impl Queries,
    id: Uuid,
    now: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<(), ChangeError> {
    queries.erase_user(id, now).await?;
    audit.push(audit.event(Action::UserErased).subject(id));
    Ok(())
}

/// Revokes the family of a refresh token and returns its id.
pub(crate) async fn revoke_token_family(
    queries: &mut impl Queries,
    token: RefreshTokenHash,
    now: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<Option<Uuid>, DbError> {
    let revoked = queries.revoke_family_of_token(token, now).await?;
    Ok(revoked.map(|(family, user)| {
        let event = audit.event(Action::SessionEnded);
        audit.push(event.subject(user).object(family));
        family
    }))
}

/// Ends a session of a user.
pub(crate) async fn end_session(
    queries: &mut impl Queries,
    user: Uuid,
    session: Uuid,
    now: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<bool, DbError> {
    let ended = queries.end_session(user, session, now).await?;
    if ended {
        let event = audit.event(Action::SessionEnded);
        audit.push(event.subject(user).object(session));
    }
    Ok(ended)
}

/// Removes an API key of a user.
pub(crate) async fn delete_api_key(
    queries: &mut impl Queries,
    user: Uuid,
    id: Uuid,
    audit: &mut AuditLog<'_>,
) -> Result<bool, DbError> {
    let deleted = queries.delete_api_key(user, id).await?;
    if deleted {
        let event = audit.event(Action::ApiKeyRevoked);
        audit.push(event.subject(user).object(id));
    }
    Ok(deleted)
}

/// Writes the time of a use of an API key.
pub(crate) async fn record_api_key_use(
    queries: &mut impl Queries,
    id: Uuid,
    now: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<(), DbError> {
    if let Some(user) = queries.record_api_key_use(id, now).await? {
        audit.push(audit.event(Action::ApiKeyUsed).subject(user).object(id));
    }
    Ok(())
}

/// Removes the oldest events of the audit trail that happened before a time.
pub(crate) async fn expire_audit_events(
    queries: &mut impl Queries,
    before: OffsetDateTime,
    audit: &mut AuditLog<'_>,
) -> Result<u64, DbError> {
    let removed = queries.release_audit_events(before).await?;
    if removed > 0 {
        let event = audit.event(Action::AuditExpired);
        audit.push(event.detail(&removed.to_string()));
    }
    Ok(removed)
}
