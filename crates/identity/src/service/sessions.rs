//! Operations of users on their sessions. The end of a session ends its access tokens: at once on
//! this replica, and on others when their cached state of the session expires.

use request::page::{Page, PageRequest};
use uuid::Uuid;

use super::Service;
use crate::audit::AuditContext;
use crate::domain::Session;
use crate::error::IdentityError;

impl Service {
    /// A page of the sessions of a user.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list_sessions(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Page<Session>, IdentityError> {
        let now = self.clock.now();
        let sessions = self.store.list_sessions(user, page, now).await?;
        Ok(page.page(sessions, |session| session.id))
    }

    /// Ends a session of a user.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchSession`], or a failure.
    pub async fn end_session(&self, user: Uuid, session: Uuid) -> Result<(), IdentityError> {
        let now = self.clock.now();
        let audit = AuditContext::current();
        let ended = self.store.end_session(user, session, now, &audit);
        if !ended.await? {
            return Err(IdentityError::NoSuchSession);
        }
        self.authenticator.evict_session(session);
        Ok(())
    }

    /// Ends all sessions of a user for an administrator.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchUser`], or a failure.
    pub async fn end_sessions_of(&self, user: Uuid) -> Result<(), IdentityError> {
        self.user(user).await?;
        self.end_sessions(user).await
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_sessions(&self, user: Uuid) -> Result<(), IdentityError> {
        let (now, audit) = (self.clock.now(), AuditContext::current());
        self.store.end_sessions(user, now, &audit).await?;
        self.authenticator.evict_user(user);
        Ok(())
    }
}
