//! Operations of administrators on the users of the service. The caller has checked the role of the
//! administrator.

use request::Role;
use request::page::{Page, PageRequest};
use uuid::Uuid;

use super::Service;
use crate::audit::{Action, AuditContext};
use crate::domain::{User, UserFilter};
use crate::error::IdentityError;
use crate::store::{ChangeError, ExpectedVersion};

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
        user: Uuid,
        expected: ExpectedVersion,
        role: Role,
    ) -> Result<User, IdentityError> {
        let now = self.clock.now();
        let audit = AuditContext::current();
        let changed = self.store.change_role(user, expected, role, now, &audit);
        let changed = match changed.await {
            Err(error @ ChangeError::LastAdministrator) => {
                let event = self.audit_event(Action::RoleChanged).subject(user);
                self.audit_refusal(event.detail(role.as_str())).await?;
                return Err(error.into());
            }
            changed => changed?,
        };
        self.authenticator.evict_user(user);
        Ok(changed)
    }

    /// Erases another user.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchUser`], [`IdentityError::VersionMismatch`],
    /// [`IdentityError::LastAdministrator`], [`IdentityError::ErasureRefused`], or a failure.
    pub async fn erase_user(
        &self,
        user: Uuid,
        expected: ExpectedVersion,
    ) -> Result<(), IdentityError> {
        let now = self.clock.now();
        let audit = AuditContext::current();
        let erased = self.store.erase_user(user, None, expected, now, &audit);
        self.audited_erasure(user, erased.await).await?;
        self.authenticator.evict_user(user);
        Ok(())
    }
}
