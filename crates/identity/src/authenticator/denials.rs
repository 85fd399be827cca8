//! Requests without the permission, in the audit trail. A client can repeat such a request without
//! end, so an event of the same kind follows after a minute only.

use std::time::{Duration, Instant};

use request::{Credential, Denied, Principal};
use uuid::Uuid;

use super::TokenAuthenticator;
use crate::audit::{Action, AuditContext, AuditEvent};

/// Time between two events of the same kind. Each replica writes by itself.
const RESOLUTION: Duration = Duration::from_mins(1);

/// Kind of a refused request: the user, the API key, and the missing permission.
pub(super) type Denial = (Uuid, Option<Uuid>, Denied);

impl TokenAuthenticator {
    /// Records a refusal, unless a recent one of its kind is recorded. A failure changes nothing for
    /// the client, because the request is refused anyway.
    pub(super) async fn record_new_denial(&self, principal: &Principal, reason: Denied) {
        let (session, api_key) = match principal.credential {
            Credential::AccessToken { session } => (session, None),
            Credential::ApiKey { id, .. } => (None, Some(id)),
        };
        let denial = (principal.user, api_key, reason);
        let is_recent = |at: Instant| at.elapsed() < RESOLUTION;
        if self.denials.get(&denial).is_some_and(is_recent) {
            return;
        }
        self.denials.insert(denial, Instant::now());
        let event = AuditEvent {
            object: session.or(api_key),
            ..AuditEvent::new(
                Action::PermissionDenied,
                AuditContext::current(),
                self.tokens.now(),
            )
        };
        let event = event
            .subject(principal.user)
            .detail(&missing(reason))
            .refused();
        if let Err(error) = self.store.append_audit_event(event).await {
            tracing::warn!(%error, "a refused request was not recorded in the audit trail");
        }
    }
}

/// The missing right, as the detail of an event.
fn missing(reason: Denied) -> String {
    match reason {
        Denied::Role(role) => format!("role {}", role.as_str()),
        Denied::Scope(scope) => format!("scope {}", scope.name),
        Denied::ApiKey => "access token".to_owned(),
    }
}
