//! Routes of the own sessions.

use axum::extract::State as AxumState;
use http::StatusCode;
use http_server::authenticate::RequirePrincipal;
use http_server::description::groups::{ANY, AUTHENTICATED, OBJECT, PAGE};
use http_server::extract::{Json, Path, Query};
use http_server::page::{PageBody, PageQuery};
use http_server::problem::ProblemResponse;
use request::page::Page;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::State;
use crate::domain::Session;

/// A session that has not ended: a login and its refreshes.
#[derive(Serialize, ToSchema)]
#[schema(as = Session, example = json!({
    "id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "device": "curl/8.14.1",
    "address_prefix": "203.0.113.0/24",
    "created_at": "2026-11-21T09:00:00Z",
    "last_used_at": "2026-11-22T07:30:00Z",
    "current": true,
}))]
pub(super) struct SessionBody {
    /// UUIDv7. Access tokens of the session have it as `sid`.
    id: Uuid,
    /// `User-Agent` of the last login or refresh, at most 200 characters. Null if it was not sent.
    device: Option<String>,
    /// Network of the client at the last login or refresh: an IPv4 /24 or an IPv6 /48.
    address_prefix: Option<String>,
    /// Time of the login.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Time of the login or of the last refresh.
    #[serde(with = "time::serde::rfc3339")]
    last_used_at: OffsetDateTime,
    /// Whether this request belongs to the session.
    current: bool,
}

http_server::problem_responses! {
    /// Problems of listing the own sessions.
    pub(super) struct ListSessionsProblems = [ANY, AUTHENTICATED, PAGE];
    /// Problems of ending a session.
    pub(super) struct EndSessionProblems = [ANY, AUTHENTICATED, OBJECT];
    /// Problems of ending all sessions.
    pub(super) struct EndSessionsProblems = [ANY, AUTHENTICATED];
}

/// The own sessions that have not ended, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    operation_id = "listSessions",
    tag = "sessions",
    security(("bearer" = [])),
    params(PageQuery),
    responses(
        (status = 200, body = PageBody<SessionBody>, description = "A page of sessions"),
        ListSessionsProblems,
    )
)]
pub(super) async fn list(
    AxumState(service): AxumState<State>,
    RequirePrincipal(principal): RequirePrincipal,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<SessionBody>>, ProblemResponse> {
    let Page { items, next } = service
        .list_sessions(principal.user, query.parse()?)
        .await?;
    let body = |session: Session| SessionBody {
        current: principal.session == Some(session.id),
        id: session.id,
        device: session.origin.device,
        address_prefix: session.origin.address_prefix,
        created_at: session.created_at,
        last_used_at: session.last_used_at,
    };
    let items: Vec<SessionBody> = items.into_iter().map(body).collect();
    Ok(Json(Page { items, next }.into()))
}

/// Ends one of the own sessions. Its refresh token is revoked. Its access tokens end: at once on
/// this replica, within 10 s on others.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    operation_id = "endSession",
    tag = "sessions",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The session")),
    responses(
        (status = 204, description = "Ended"),
        EndSessionProblems,
    )
)]
pub(super) async fn end(
    AxumState(service): AxumState<State>,
    RequirePrincipal(principal): RequirePrincipal,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ProblemResponse> {
    service.end_session(principal.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all own sessions, also the one of this request.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions",
    operation_id = "endSessions",
    tag = "sessions",
    security(("bearer" = [])),
    responses(
        (status = 204, description = "Ended"),
        EndSessionsProblems,
    )
)]
pub(super) async fn end_all(
    AxumState(service): AxumState<State>,
    RequirePrincipal(principal): RequirePrincipal,
) -> Result<StatusCode, ProblemResponse> {
    service.end_sessions(principal.user).await?;
    Ok(StatusCode::NO_CONTENT)
}
