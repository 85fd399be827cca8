//! Operations of users on their sessions. The end of a session ends its access tokens: at once on
//! this replica, and on others when their cached state of the session expires.

use request::page::{Page, PageRequest};
use uuid::Uuid;

use super::Service;
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
        if !self.store.end_session(user, session, now).await? {
            return Err(IdentityError::NoSuchSession);
        }
        self.authenticator.evict_session(session);
        tracing::info!(%user, %session, "a user ended a session");
        Ok(())
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_sessions(&self, user: Uuid) -> Result<(), IdentityError> {
        self.store.end_sessions(user, self.clock.now()).await?;
        self.authenticator.evict_user(user);
        tracing::info!(%user, "a user ended all sessions");
        Ok(())
    }
}
