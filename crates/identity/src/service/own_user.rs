//! Operations of users on their own account. Changing the address or the password and erasing the
//! account require the password again, so that a stolen access token is not enough to take over or
//! destroy the account.

use uuid::Uuid;

use super::{Service, outcome};
use crate::domain::{Password, User, UserChange};
use crate::error::IdentityError;
use crate::password::Verified;
use crate::store::Expected;

/// The stored hash of a password that was verified a moment ago.
struct Confirmed(String);

impl Service {
    /// Returns a user.
    ///
    /// # Errors
    /// [`IdentityError::Gone`], or a failure.
    pub async fn user(&self, id: Uuid) -> Result<User, IdentityError> {
        self.store.user(id).await?.ok_or(IdentityError::Gone)
    }

    /// Applies changes that need no password, which are all but a new address.
    ///
    /// # Errors
    /// [`IdentityError::Gone`], [`IdentityError::Stale`], or a failure.
    pub async fn update(
        &self,
        id: Uuid,
        expected: Expected,
        change: UserChange,
    ) -> Result<User, IdentityError> {
        self.change(id, None, expected, change).await
    }

    /// Changes the address and the other fields of the change.
    ///
    /// # Errors
    /// [`IdentityError::TooSoon`], [`IdentityError::WrongPassword`], [`IdentityError::Overloaded`],
    /// [`IdentityError::Gone`], [`IdentityError::Stale`], [`IdentityError::EmailTaken`], or a
    /// failure.
    pub async fn update_address(
        &self,
        id: Uuid,
        current: Password,
        expected: Expected,
        change: UserChange,
    ) -> Result<User, IdentityError> {
        let Confirmed(hash) = self.confirm(id, current).await?;
        self.change(id, Some(&hash), expected, change).await
    }

    async fn change(
        &self,
        id: Uuid,
        verified_hash: Option<&str>,
        expected: Expected,
        change: UserChange,
    ) -> Result<User, IdentityError> {
        let now = self.clock.now();
        let store = &self.store;
        let changed = store.update_user(id, verified_hash, expected, change, now);
        Ok(changed.await?)
    }

    /// Replaces the password, revokes every refresh token and ends every access token. Access
    /// tokens end at once on this replica. On others they end when the cached state of the user
    /// expires.
    ///
    /// # Errors
    /// [`IdentityError::WrongPassword`], [`IdentityError::Gone`], [`IdentityError::TooSoon`],
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
        let guess = self.throttle.confirmation(id).await?;
        let stored = self.store.password_hash(id).await?;
        let stored = stored.ok_or(IdentityError::Gone)?;
        let hash = self.hasher.replace(current, stored.clone(), new).await?;
        let hash = hash.ok_or(IdentityError::WrongPassword)?;
        guess.was_right();
        let now = self.clock.now();
        self.store.change_password(id, &stored, &hash, now).await?;
        self.authenticator.forget(id);
        tracing::info!(user = %id, "password changed");
        Ok(())
    }

    /// Erases a user.
    ///
    /// # Errors
    /// [`IdentityError::TooSoon`], [`IdentityError::WrongPassword`], [`IdentityError::Overloaded`],
    /// [`IdentityError::Gone`], [`IdentityError::Stale`], [`IdentityError::Kept`], or a failure.
    pub async fn erase(
        &self,
        id: Uuid,
        current: Password,
        expected: Expected,
    ) -> Result<(), IdentityError> {
        let Confirmed(hash) = self.confirm(id, current).await?;
        self.store
            .erase_user(id, Some(&hash), expected, self.clock.now())
            .await?;
        self.authenticator.forget(id);
        tracing::info!(user = %id, "user erased");
        Ok(())
    }

    /// Verifies the own password as confirmation of an operation.
    async fn confirm(&self, id: Uuid, current: Password) -> Result<Confirmed, IdentityError> {
        let result = self.verify_again(id, current).await;
        self.attempts.confirmation.count(outcome(&result));
        result
    }

    async fn verify_again(&self, id: Uuid, current: Password) -> Result<Confirmed, IdentityError> {
        let guess = self.throttle.confirmation(id).await?;
        let stored = self.store.password_hash(id).await?;
        let stored = stored.ok_or(IdentityError::Gone)?;
        match self.hasher.confirm(current, stored.clone()).await? {
            Verified::Wrong => Err(IdentityError::WrongPassword),
            Verified::Right { .. } => {
                guess.was_right();
                Ok(Confirmed(stored))
            }
        }
    }
}
