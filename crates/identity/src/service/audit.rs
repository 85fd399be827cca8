//! Events of the audit trail that belong to no change, and the list of events.

use request::page::{Page, PageRequest};

use super::Service;
use crate::audit::{Action, AuditContext, AuditEvent, StoredEvent};
use crate::error::IdentityError;
use crate::store::AuditFilter;

impl Service {
    /// A page of the audit trail.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list_audit_events(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<StoredEvent>, IdentityError> {
        let events = self.store.list_audit_events(filter, page).await?;
        Ok(page.page(events, |event| event.id))
    }

    /// An event of the current request.
    pub(super) fn audit_event(&self, action: Action) -> AuditEvent {
        AuditEvent::new(action, AuditContext::current(), self.clock.now())
    }

    /// Records that an action was refused, before its client gets the answer.
    pub(super) async fn audit_refusal(&self, event: AuditEvent) -> Result<(), IdentityError> {
        Ok(self.store.append_audit_event(event.refused()).await?)
    }
}
