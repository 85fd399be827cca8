//! Routes of administrators, who manage the users of the service.

use axum::extract::State as AxumState;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use http_server::authenticate::Authorized;
use http_server::description::groups::{ADMIN, ANY, AUTHENTICATED, BODY, IF_MATCH, OBJECT, PAGE};
use http_server::etag;
use http_server::etag::{IfMatch, IfNoneMatch};
use http_server::extract::{Json, Path, Query};
use http_server::page::{PageBody, PageQuery};
use http_server::problem::{ProblemResponse, codes as http_codes};
use request::{Fields, Problem, Role};
use serde::Deserialize;
use settings::validation::InvalidValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::users::expected_version;
use super::{State, UserBody, codes, permissions, role_schema};
use crate::domain::{SearchText, User, UserFilter, UserOrder};
use crate::error::IdentityError;

/// The query parameters of the list of users.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UserListQuery {
    /// Only users with this role.
    #[param(schema_with = role_schema)]
    role: Option<String>,
    /// Only users whose name or address contains this text. ASCII letters match in both cases.
    #[param(min_length = 1, max_length = 100)]
    q: Option<String>,
    /// `-created_at`, newest first, which is the default, or `created_at`, oldest first.
    #[param(pattern = "^-?created_at$")]
    sort: Option<String>,
    /// Maximum number of items: 1 to 100, 20 by default.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page of the same list.
    cursor: Option<String>,
}

/// A new role for a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoleChange, example = json!({ "role": "admin" }))]
pub(super) struct RoleChangeBody {
    /// The role.
    #[schema(schema_with = role_schema)]
    role: String,
}

http_server::problem_responses! {
    /// Problems of listing users.
    pub(super) struct ListUsersProblems =
        [ANY, AUTHENTICATED, ADMIN, PAGE, &[http_codes::VALIDATION_FAILED]];
    /// Problems of reading a user.
    pub(super) struct ReadUserProblems = [ANY, AUTHENTICATED, ADMIN, OBJECT];
    /// Problems of ending the sessions of a user.
    pub(super) struct EndUserSessionsProblems = [ANY, AUTHENTICATED, ADMIN, OBJECT];
    /// Problems of changing the role of a user.
    pub(super) struct ChangeRoleProblems =
        [ANY, AUTHENTICATED, ADMIN, OBJECT, BODY, IF_MATCH, &[codes::LAST_ADMINISTRATOR]];
    /// Problems of erasing a user. The application adds those of its erasure hooks.
    pub(super) struct EraseUserProblems =
        [ANY, AUTHENTICATED, ADMIN, OBJECT, IF_MATCH, &[codes::LAST_ADMINISTRATOR]];
}

fn parse_role(text: &str) -> Result<Role, InvalidValue> {
    Role::parse(text).ok_or(InvalidValue {
        code: "UNKNOWN_ROLE",
        message: "is not a role of this service",
    })
}

impl UserListQuery {
    fn filter(&self) -> Result<UserFilter, Problem> {
        let mut fields = Fields::default();
        let role = self
            .role
            .as_deref()
            .and_then(|role| fields.take("role", parse_role(role)));
        let search = self
            .q
            .as_deref()
            .and_then(|text| fields.take("q", SearchText::parse(text)));
        let order = self
            .sort
            .as_deref()
            .and_then(|order| fields.take("sort", UserOrder::parse(order)));
        fields.finish(Some(UserFilter {
            role,
            search,
            order: order.unwrap_or_default(),
        }))
    }

    fn page(self) -> PageQuery {
        PageQuery {
            limit: self.limit,
            cursor: self.cursor,
        }
    }
}

/// The user of a path may be unknown. The principal of a request may not.
fn not_found(error: IdentityError) -> Problem {
    match error {
        IdentityError::NoSuchUser => {
            Problem::new(http_codes::NOT_FOUND, "There is no user with this id.")
        }
        error => error.into(),
    }
}

fn user_response(user: User) -> Response {
    let tag = [(header::ETAG, etag::tag(user.version))];
    (tag, Json(UserBody::from(user))).into_response()
}

/// The users of the service.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    operation_id = "listUsers",
    tag = "administration",
    security(("bearer" = ["admin"]), ("api_key" = ["users:read"])),
    params(UserListQuery),
    responses(
        (status = 200, body = PageBody<UserBody>, description = "A page of users"),
        ListUsersProblems,
    )
)]
pub(super) async fn list(
    AxumState(service): AxumState<State>,
    _administrator: Authorized<permissions::ReadUsers>,
    Query(query): Query<UserListQuery>,
) -> Result<Json<PageBody<UserBody>>, ProblemResponse> {
    let filter = query.filter()?;
    let page = service.list_users(&filter, query.page().parse()?).await?;
    Ok(Json(page.into()))
}

/// One user.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}",
    operation_id = "getUser",
    tag = "administration",
    security(("bearer" = ["admin"]), ("api_key" = ["users:read"])),
    params(
        ("id" = Uuid, Path, description = "The user"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that are known already"),
    ),
    responses(
        (status = 200, body = UserBody, headers(("ETag" = String, description = "Version of the user")), description = "The user"),
        (status = 304, description = "Not changed since an ETag in If-None-Match"),
        ReadUserProblems,
    )
)]
pub(super) async fn read(
    AxumState(service): AxumState<State>,
    _administrator: Authorized<permissions::ReadUsers>,
    Path(id): Path<Uuid>,
    if_none_match: IfNoneMatch,
) -> Result<Response, ProblemResponse> {
    let user = service.user(id).await.map_err(not_found)?;
    if if_none_match.names(user.version) {
        let tag = [(header::ETAG, etag::tag(user.version))];
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok(user_response(user))
}

/// Changes the role of a user. A new role revokes every refresh token of the user. Every access
/// token ends: at once on this replica, within 10 s on others. The last administrator keeps the
/// role.
#[utoipa::path(
    patch,
    path = "/api/v1/users/{id}",
    operation_id = "changeUserRole",
    tag = "administration",
    security(("bearer" = ["admin"])),
    params(
        ("id" = Uuid, Path, description = "The user"),
        ("If-Match" = Option<String>, Header, description = "ETag that the change starts from"),
    ),
    request_body = RoleChangeBody,
    responses(
        (status = 200, body = UserBody, headers(("ETag" = String, description = "Version of the user")), description = "The user, changed"),
        ChangeRoleProblems,
    )
)]
pub(super) async fn change_role(
    AxumState(service): AxumState<State>,
    _administrator: Authorized<permissions::ManageUsers>,
    Path(id): Path<Uuid>,
    if_match: IfMatch,
    Json(body): Json<RoleChangeBody>,
) -> Result<Response, ProblemResponse> {
    let mut fields = Fields::default();
    let role = fields.take("role", parse_role(&body.role));
    let role = fields.finish(role)?;
    let expected = expected_version(if_match);
    let user = service.change_role(id, expected, role);
    Ok(user_response(user.await.map_err(not_found)?))
}

/// Erases another user, like the erasure of the own account. The last administrator is not erased.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}",
    operation_id = "eraseUser",
    tag = "administration",
    security(("bearer" = ["admin"])),
    params(
        ("id" = Uuid, Path, description = "The user"),
        ("If-Match" = Option<String>, Header, description = "ETag that the deletion starts from"),
    ),
    responses(
        (status = 204, description = "Erased"),
        EraseUserProblems,
    )
)]
pub(super) async fn erase(
    AxumState(service): AxumState<State>,
    administrator: Authorized<permissions::ManageUsers>,
    Path(id): Path<Uuid>,
    if_match: IfMatch,
) -> Result<StatusCode, ProblemResponse> {
    if id == administrator.user {
        return Err(Problem::new(
            http_codes::FORBIDDEN,
            "Erase your own account at /api/v1/users/me, which asks for your password.",
        )
        .into());
    }
    let expected = expected_version(if_match);
    let erased = service.erase_user(id, expected);
    erased.await.map_err(not_found)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all sessions of a user. Every refresh token of the user is revoked. Every access token ends:
/// at once on this replica, within 10 s on others. API keys stay.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}/sessions",
    operation_id = "endUserSessions",
    tag = "administration",
    security(("bearer" = ["admin"])),
    params(("id" = Uuid, Path, description = "The user")),
    responses(
        (status = 204, description = "Ended"),
        EndUserSessionsProblems,
    )
)]
pub(super) async fn end_sessions(
    AxumState(service): AxumState<State>,
    _administrator: Authorized<permissions::ManageUsers>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ProblemResponse> {
    service.end_sessions_of(id).await.map_err(not_found)?;
    Ok(StatusCode::NO_CONTENT)
}
