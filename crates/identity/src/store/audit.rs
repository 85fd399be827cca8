//! Data of the audit trail that services and stores exchange, and the events of one transaction.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Action, AuditContext, AuditEvent, ChainHash, StoredEvent};

/// The ends of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Position of the last event. 0 before the first one.
    pub sequence: i64,
    /// Hash of the last event.
    pub hash: ChainHash,
    /// Position of the last event that the retention removed. 0 if it removed none.
    pub expired_through: i64,
    /// Hash of that event.
    pub expired_hash: ChainHash,
}

/// The events of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only events of this action.
    pub action: Option<Action>,
    /// Only events that this user caused.
    pub actor: Option<Uuid>,
    /// Only events that concern this user.
    pub subject: Option<Uuid>,
}

/// The events of one transaction. They get their places in the chain before the commit.
pub(crate) struct AuditLog<'a> {
    context: &'a AuditContext,
    now: OffsetDateTime,
    pub(super) events: Vec<AuditEvent>,
    pub(super) stored: Vec<StoredEvent>,
}

impl<'a> AuditLog<'a> {
    pub(crate) fn new(context: &'a AuditContext, now: OffsetDateTime) -> Self {
        Self {
            context,
            now,
            events: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// A new event. [`AuditLog::push`] records it.
    pub(crate) fn event(&self, action: Action) -> AuditEvent {
        AuditEvent::new(action, self.context.clone(), self.now)
    }

    pub(crate) fn push(&mut self, event: AuditEvent) {
        self.events.push(event);
    }

    /// Writes the events to the log after the commit.
    pub(crate) fn committed(&self) {
        for event in &self.stored {
            event.log();
        }
    }
}
