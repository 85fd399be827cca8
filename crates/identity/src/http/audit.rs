//! Route of the audit trail.

use axum::extract::State as AxumState;
use http_server::authenticate::Authorized;
use http_server::description::groups::{ADMIN, ANY, AUTHENTICATED, PAGE};
use http_server::extract::{Json, Query};
use http_server::page::{PageBody, PageQuery};
use http_server::problem::{ProblemResponse, codes as http_codes};
use request::{Fields, Problem};
use serde::{Deserialize, Serialize};
use settings::validation::InvalidValue;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{State, permissions};
use crate::audit::{Action, StoredEvent};
use crate::store::AuditFilter;

/// The query parameters of the audit trail.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Only events of this action, for instance `user.role_changed`.
    #[param(pattern = "^[a-z_]+\\.[a-z_]+$")]
    action: Option<String>,
    /// Only events that this user caused.
    actor: Option<Uuid>,
    /// Only events that concern this user.
    subject: Option<Uuid>,
    /// Maximum number of items: 1 to 100, 20 by default.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// An event that concerns credentials or rights.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvent, example = json!({
    "id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "sequence": 4711,
    "occurred_at": "2026-11-21T09:00:00.004211Z",
    "action": "user.role_changed",
    "outcome": "success",
    "actor_kind": "user",
    "actor": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e60",
    "api_key": null,
    "subject": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e61",
    "object": null,
    "network": "203.0.113.0/24",
    "request_id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e62",
    "detail": "admin",
}))]
pub(super) struct AuditEventBody {
    /// UUIDv7.
    id: Uuid,
    /// Position in the trail, without gaps.
    sequence: i64,
    /// Time of the event.
    #[serde(with = "time::serde::rfc3339")]
    occurred_at: OffsetDateTime,
    /// The action.
    action: String,
    /// `success` or `refused`.
    #[schema(pattern = "^(success|refused)$")]
    outcome: String,
    /// `anonymous`, `user`, `operator` (the command line) or `service`.
    #[schema(pattern = "^(anonymous|user|operator|service)$")]
    actor_kind: String,
    /// The user who acted.
    actor: Option<Uuid>,
    /// The API key of the user who acted.
    api_key: Option<Uuid>,
    /// The user whom the event concerns.
    subject: Option<Uuid>,
    /// The session or the API key that the event concerns.
    object: Option<Uuid>,
    /// Network of the client: an IPv4 /24 or an IPv6 /48.
    network: Option<String>,
    /// Id of the request.
    request_id: Option<String>,
    /// A word that the action needs beside the ids, for instance the new role.
    detail: Option<String>,
}

impl From<StoredEvent> for AuditEventBody {
    fn from(event: StoredEvent) -> Self {
        Self {
            id: event.id,
            sequence: event.sequence,
            occurred_at: event.occurred_at,
            action: event.action,
            outcome: event.outcome,
            actor_kind: event.actor_kind,
            actor: event.actor_id,
            api_key: event.credential_id,
            subject: event.subject_id,
            object: event.object_id,
            network: event.network,
            request_id: event.request_id,
            detail: event.detail,
        }
    }
}

http_server::problem_responses! {
    /// Problems of listing audit events.
    pub(super) struct ListAuditEventsProblems =
        [ANY, AUTHENTICATED, ADMIN, PAGE, &[http_codes::VALIDATION_FAILED]];
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, Problem> {
        let mut fields = Fields::default();
        let action = self.action.as_deref().and_then(|action| {
            let action = Action::parse(action).ok_or(InvalidValue {
                code: "UNKNOWN_ACTION",
                message: "must be an action of the documentation",
            });
            fields.take("action", action)
        });
        fields.finish(Some(AuditFilter {
            action,
            actor: self.actor,
            subject: self.subject,
        }))
    }

    fn page(self) -> PageQuery {
        PageQuery {
            limit: self.limit,
            cursor: self.cursor,
        }
    }
}

/// The audit trail, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/audit-events",
    operation_id = "listAuditEvents",
    tag = "administration",
    security(("bearer" = ["admin"]), ("api_key" = ["audit:read"])),
    params(AuditQuery),
    responses(
        (status = 200, body = PageBody<AuditEventBody>, description = "A page of events"),
        ListAuditEventsProblems,
    )
)]
pub(super) async fn list(
    AxumState(service): AxumState<State>,
    _administrator: Authorized<permissions::ReadAudit>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<PageBody<AuditEventBody>>, ProblemResponse> {
    let filter = query.filter()?;
    let page = service.list_audit_events(filter, query.page().parse()?);
    Ok(Json(page.await?.into()))
}
