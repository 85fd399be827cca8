//! Operations of users on their own account. Changing the address or the password and erasing the
//! account require the password again, so that a stolen access token is not enough to take over or
//! destroy the account.

use uuid::Uuid;

use super::{Service, outcome};
use crate::audit::{Action, AuditContext};
use crate::domain::{Password, User, UserChange};
use crate::error::IdentityError;
use crate::password::PasswordVerification;
use crate::store::{ChangeError, ExpectedVersion};

/// The stored hash that the password of a confirmation was verified against.
struct VerifiedHash(String);

impl Service {
    /// Returns a user.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchUser`], or a failure.
    pub async fn user(&self, id: Uuid) -> Result<User, IdentityError> {
        self.store.user(id).await?.ok_or(IdentityError::NoSuchUser)
    }

    /// Applies changes that need no password, which are all but a new address.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchUser`], [`IdentityError::VersionMismatch`], or a failure.
    pub async fn update(
        &self,
        id: Uuid,
        expected: ExpectedVersion,
        change: UserChange,
    ) -> Result<User, IdentityError> {
        self.update_user(id, None, expected, change).await
    }

    /// Changes the address and the other fields of the change.
    ///
    /// # Errors
    /// [`IdentityError::RateLimited`], [`IdentityError::WrongPassword`], [`IdentityError::Overloaded`],
    /// [`IdentityError::NoSuchUser`], [`IdentityError::VersionMismatch`], [`IdentityError::EmailTaken`], or a
    /// failure.
    pub async fn update_address(
        &self,
        id: Uuid,
        current: Password,
        expected: ExpectedVersion,
        change: UserChange,
    ) -> Result<User, IdentityError> {
        let VerifiedHash(hash) = self.confirm(id, current).await?;
        self.update_user(id, Some(&hash), expected, change).await
    }

    async fn update_user(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: ExpectedVersion,
        change: UserChange,
    ) -> Result<User, IdentityError> {
        let now = self.clock.now();
        let store = &self.store;
        let audit = AuditContext::current();
        let changed = store.update_user(id, verified_hash, expected, change, now, &audit);
        Ok(changed.await?)
    }

    /// Replaces the password, revokes every refresh token and ends every access token. Access
    /// tokens end at once on this replica. On others they end when the cached state of the user
    /// expires.
    ///
    /// # Errors
    /// [`IdentityError::WrongPassword`], [`IdentityError::NoSuchUser`], [`IdentityError::RateLimited`],
    /// [`IdentityError::Overloaded`], or a failure.
    pub async fn change_password(
        &self,
        id: Uuid,
        current: Password,
        new: Password,
    ) -> Result<(), IdentityError> {
        let result = self.replace_password(id, current, new).await;
        self.attempts.confirmation.count(outcome(&result));
        result
    }

    async fn replace_password(
        &self,
        id: Uuid,
        current: Password,
        new: Password,
    ) -> Result<(), IdentityError> {
        let permit = self.throttle.confirmation(id).await?;
        let stored = self.store.password_hash(id).await?;
        let stored = stored.ok_or(IdentityError::NoSuchUser)?;
        let hash = self.hasher.replace(current, stored.clone(), new).await?;
        let Some(hash) = hash else {
            let event = self.audit_event(Action::PasswordChanged);
            self.audit_refusal(event.subject(id)).await?;
            return Err(IdentityError::WrongPassword);
        };
        permit.succeeded();
        let (now, audit) = (self.clock.now(), AuditContext::current());
        let changed = self.store.change_password(id, &stored, &hash, now, &audit);
        changed.await?;
        self.authenticator.evict_user(id);
        Ok(())
    }

    /// Erases a user.
    ///
    /// # Errors
    /// [`IdentityError::RateLimited`], [`IdentityError::WrongPassword`], [`IdentityError::Overloaded`],
    /// [`IdentityError::NoSuchUser`], [`IdentityError::VersionMismatch`], [`IdentityError::ErasureRefused`], or a failure.
    pub async fn erase(
        &self,
        id: Uuid,
        current: Password,
        expected: ExpectedVersion,
    ) -> Result<(), IdentityError> {
        let VerifiedHash(hash) = self.confirm(id, current).await?;
        let (now, audit) = (self.clock.now(), AuditContext::current());
        let erased = self
            .store
            .erase_user(id, Some(&hash), expected, now, &audit);
        self.audited_erasure(id, erased.await).await?;
        self.authenticator.evict_user(id);
        Ok(())
    }

    /// Records the refusal of an erasure.
    pub(super) async fn audited_erasure(
        &self,
        id: Uuid,
        erased: Result<(), ChangeError>,
    ) -> Result<(), IdentityError> {
        let is_refused = matches!(
            erased,
            Err(ChangeError::LastAdministrator | ChangeError::ErasureRefused(_))
        );
        if is_refused {
            let event = self.audit_event(Action::UserErased);
            self.audit_refusal(event.subject(id)).await?;
        }
        Ok(erased?)
    }

    /// Verifies the own password as confirmation of an operation.
    async fn confirm(&self, id: Uuid, current: Password) -> Result<VerifiedHash, IdentityError> {
        let result = self.verify_own_password(id, current).await;
        self.attempts.confirmation.count(outcome(&result));
        result
    }

    async fn verify_own_password(
        &self,
        id: Uuid,
        current: Password,
    ) -> Result<VerifiedHash, IdentityError> {
        let permit = self.throttle.confirmation(id).await?;
        let stored = self.store.password_hash(id).await?;
        let stored = stored.ok_or(IdentityError::NoSuchUser)?;
        match self.hasher.confirm(current, stored.clone()).await? {
            PasswordVerification::Wrong => {
                let event = self.audit_event(Action::PasswordConfirmed);
                self.audit_refusal(event.subject(id)).await?;
                Err(IdentityError::WrongPassword)
            }
            PasswordVerification::Right { .. } => {
                permit.succeeded();
                Ok(VerifiedHash(stored))
            }
        }
    }
}
