//! Operations of administrators on the users of the service. The caller has checked the role of the
//! administrator.

use request::Role;
use request::page::{Page, PageRequest};
use uuid::Uuid;

use super::Service;
use crate::domain::{User, UserFilter};
use crate::error::IdentityError;
use crate::store::ExpectedVersion;

impl Service {
    /// A page of users.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list_users(
        &self,
        filter: &UserFilter,
        page: PageRequest,
    ) -> Result<Page<User>, IdentityError> {
        let users = self.store.list_users(filter, page).await?;
        Ok(page.page(users, |user| user.id))
    }

    /// Changes the role of a user. A new role ends every session and access token of the user: at
    /// once on this replica, and on others when the cached state of the user expires.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchUser`], [`IdentityError::VersionMismatch`],
    /// [`IdentityError::LastAdministrator`], or a failure.
    pub async fn change_role(
        &self,
        administrator: Uuid,
        user: Uuid,
        expected: ExpectedVersion,
        role: Role,
    ) -> Result<User, IdentityError> {
        let now = self.clock.now();
        let changed = self.store.change_role(user, expected, role, now).await?;
        self.authenticator.evict_user(user);
        tracing::info!(%administrator, %user, role = role.as_str(), "an administrator set the role of a user");
        Ok(changed)
    }

    /// Erases another user.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchUser`], [`IdentityError::VersionMismatch`],
    /// [`IdentityError::LastAdministrator`], [`IdentityError::ErasureRefused`], or a failure.
    pub async fn erase_user(
        &self,
        administrator: Uuid,
        user: Uuid,
        expected: ExpectedVersion,
    ) -> Result<(), IdentityError> {
        let now = self.clock.now();
        self.store.erase_user(user, None, expected, now).await?;
        self.authenticator.evict_user(user);
        tracing::info!(%administrator, %user, "an administrator erased a user");
        Ok(())
    }
}
