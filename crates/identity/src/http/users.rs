//! Routes of the own account.

use axum::extract::State as AxumState;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_server::description::groups::{ANY, AUTHENTICATED, BODY, IF_MATCH};
use http_server::etag;
use http_server::etag::{Condition, IfMatch, IfNoneMatch};
use http_server::extract::Json;
use http_server::problem::ProblemResponse;
use request::Fields;
use serde::Deserialize;
use settings::validation::InvalidValue;
use utoipa::ToSchema;

use super::local_user::LocalUser;
use super::{State, UserBody, codes, permissions};
use crate::domain::{Email, Name, Password, User, UserChange};
use crate::store::ExpectedVersion;

/// Changes of the own account. A field that is left out, or null, stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Change, example = json!({ "name": "Ada King" }))]
pub(super) struct UserChangeBody {
    /// 1 to 100 characters, at least one of them visible. Control characters and controls of text
    /// direction are refused.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Unique among users. Forms of one address that differ in case or Unicode form are the same.
    /// Invisible characters are refused.
    #[schema(format = Email, max_length = 254)]
    email: Option<String>,
    /// The present password. Required with `email`, otherwise ignored.
    #[schema(format = Password)]
    current_password: Option<String>,
}

/// Confirmation of the erasure of the own account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Erasure, example = json!({ "current_password": "correct horse battery staple" }))]
pub(super) struct ErasureBody {
    /// The present password.
    #[schema(format = Password)]
    current_password: String,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "current_password": "correct horse battery staple", "new_password": "a much better passphrase",
}))]
pub(super) struct PasswordChange {
    /// The present password.
    #[schema(format = Password)]
    current_password: String,
    /// At least 12 characters, at most 256 bytes. Common words, sequences, repetitions and the own
    /// address are refused.
    #[schema(format = Password, min_length = 12, max_length = 256)]
    new_password: String,
}

http_server::problem_responses! {
    /// Problems of reading the own account.
    pub(super) struct ReadProblems = [ANY, AUTHENTICATED, &[codes::MANAGED_BY_PROVIDER]];
    /// Problems of changing the own account.
    pub(super) struct UpdateProblems = [ANY, AUTHENTICATED, BODY, IF_MATCH, &[
        codes::MANAGED_BY_PROVIDER,
        codes::WRONG_PASSWORD,
        codes::EMAIL_TAKEN,
    ]];
    /// Problems of erasing the own account. The application adds those of its erasure hooks.
    pub(super) struct EraseProblems = [ANY, AUTHENTICATED, BODY, IF_MATCH, &[
        codes::MANAGED_BY_PROVIDER,
        codes::WRONG_PASSWORD,
        codes::LAST_ADMINISTRATOR,
    ]];
    /// Problems of changing the own password.
    pub(super) struct ChangePasswordProblems =
        [ANY, AUTHENTICATED, BODY, &[codes::MANAGED_BY_PROVIDER, codes::WRONG_PASSWORD]];
}

const REQUIRED: InvalidValue = InvalidValue {
    code: "REQUIRED",
    message: "is required",
};

/// The path is the same for every user, so caches must not share an answer between callers.
const PRIVATE_CACHE_HEADERS: [(HeaderName, HeaderValue); 2] = [
    (
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    ),
    (
        header::VARY,
        HeaderValue::from_static("authorization, x-api-key"),
    ),
];

fn user_response(user: User) -> Response {
    let tag = [(header::ETAG, etag::tag(user.version))];
    (PRIVATE_CACHE_HEADERS, tag, Json(UserBody::from(user))).into_response()
}

pub(super) fn expected_version(IfMatch(condition): IfMatch) -> ExpectedVersion {
    match condition {
        Condition::Absent | Condition::Anything => ExpectedVersion::Any,
        Condition::Versions(versions) => ExpectedVersion::OneOf(versions),
    }
}

/// Returns the own account.
#[utoipa::path(
    get,
    path = "/api/v1/users/me",
    operation_id = "getOwnUser",
    tag = "users",
    security(("bearer" = []), ("api_key" = ["profile:read"])),
    params(("If-None-Match" = Option<String>, Header, description = "ETags that are known already")),
    responses(
        (status = 200, body = UserBody, headers(("ETag" = String, description = "Version of the user")), description = "The user"),
        (status = 304, description = "Not changed since the ETag in If-None-Match"),
        ReadProblems,
    )
)]
pub(super) async fn read(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ReadOwnUser>,
    if_none_match: IfNoneMatch,
) -> Result<Response, ProblemResponse> {
    let user = service.user(user.id).await?;
    if if_none_match.names(user.version) {
        let tag = [(header::ETAG, etag::tag(user.version))];
        return Ok((StatusCode::NOT_MODIFIED, PRIVATE_CACHE_HEADERS, tag).into_response());
    }
    Ok(user_response(user))
}

/// Changes the name or the address of the own account. A new address requires the password.
#[utoipa::path(
    patch,
    path = "/api/v1/users/me",
    operation_id = "updateOwnUser",
    tag = "users",
    security(("bearer" = [])),
    params(("If-Match" = Option<String>, Header, description = "ETag that the change starts from")),
    request_body = UserChangeBody,
    responses(
        (status = 200, body = UserBody, headers(("ETag" = String, description = "Version of the user")), description = "The user, changed"),
        UpdateProblems,
    )
)]
pub(super) async fn update(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ManageOwnUser>,
    if_match: IfMatch,
    Json(body): Json<UserChangeBody>,
) -> Result<Response, ProblemResponse> {
    let expected = expected_version(if_match);
    let mut fields = Fields::default();
    let name = body
        .name
        .map(|name| fields.take("name", Name::parse(&name)));
    let email = body
        .email
        .map(|email| fields.take("email", Email::parse(&email)));
    let current = email.as_ref().and_then(|_| {
        let current = body.current_password.ok_or(REQUIRED);
        fields.take("current_password", current)
    });
    let change = UserChange {
        name: name.flatten(),
        email: email.flatten(),
    };
    let change = fields.finish(Some(change))?;
    let user = match current {
        Some(current) => {
            let current = Password::for_verification(current);
            let (id, expected) = (user.id, expected);
            service.update_address(id, current, expected, change).await
        }
        None => service.update(user.id, expected, change).await,
    }?;
    Ok(user_response(user))
}

/// Erases the own account. It requires the password. Personal data is removed and tokens are
/// revoked. The id stays, as do records of other parts of the service that refer to it.
#[utoipa::path(
    delete,
    path = "/api/v1/users/me",
    operation_id = "eraseOwnUser",
    tag = "users",
    security(("bearer" = [])),
    params(("If-Match" = Option<String>, Header, description = "ETag that the deletion starts from")),
    request_body = ErasureBody,
    responses(
        (status = 204, description = "Erased"),
        EraseProblems,
    )
)]
pub(super) async fn erase(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ManageOwnUser>,
    if_match: IfMatch,
    body: Option<Json<ErasureBody>>,
) -> Result<StatusCode, ProblemResponse> {
    let expected = expected_version(if_match);
    let mut fields = Fields::default();
    let current = body.map(|Json(body)| body.current_password);
    let current = fields.take("current_password", current.ok_or(REQUIRED));
    let current = Password::for_verification(fields.finish(current)?);
    service.erase(user.id, current, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the own password. Every refresh token is revoked. Every access token ends, including the
/// one of this request: at once on this replica, within 10 s on others.
#[utoipa::path(
    post,
    path = "/api/v1/users/me/password",
    operation_id = "changeOwnPassword",
    tag = "users",
    security(("bearer" = [])),
    request_body = PasswordChange,
    responses(
        (status = 204, description = "Changed; log in again"),
        ChangePasswordProblems,
    )
)]
pub(super) async fn change_password(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ManageOwnUser>,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode, ProblemResponse> {
    let mut fields = Fields::default();
    let own = service.user(user.id).await?.email;
    let new = fields.take(
        "new_password",
        service.parse_new_password(body.new_password, Some(&own)),
    );
    let new = fields.finish(new)?;
    let current = Password::for_verification(body.current_password);
    service.change_password(user.id, current, new).await?;
    Ok(StatusCode::NO_CONTENT)
}
