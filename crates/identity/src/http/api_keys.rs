//! Routes of the own API keys.

use axum::extract::State as AxumState;
use axum::response::IntoResponse;
use http::StatusCode;
use http_server::description::groups::{ANY, AUTHENTICATED, BODY, OBJECT, PAGE};
use http_server::extract::{Json, Path, Query};
use http_server::page::{PageBody, PageQuery};
use http_server::problem::ProblemResponse;
use request::Fields;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::NO_STORE;
use super::local_user::LocalUser;
use super::{State, codes, permissions};
use crate::domain::{ApiKey, Name};

/// A new API key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKey, example = json!({ "name": "Nightly report", "scopes": ["profile:read"] }))]
pub(super) struct NewApiKeyBody {
    /// 1 to 100 characters, at least one of them visible.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// The scopes of the key. Without the list it has all scopes.
    #[schema(min_items = 1)]
    scopes: Option<Vec<String>>,
    /// The key is not valid from this time on. At most `auth.api_key_ttl` from now, which is also
    /// the default.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// An API key.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey, example = json!({
    "id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "name": "Nightly report",
    "scopes": ["profile:read"],
    "created_at": "2026-11-21T09:00:00Z",
    "expires_at": "2027-11-21T09:00:00Z",
    "last_used_at": null,
}))]
pub(super) struct ApiKeyBody {
    /// UUIDv7.
    id: Uuid,
    /// Name, chosen by the user.
    name: String,
    /// The scopes of the key.
    scopes: Vec<Box<str>>,
    /// Time of the creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The key is not valid from this time on.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// Time of a use, at most a minute before the last one. Null before the first use.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
}

/// A new API key with its text.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedApiKey)]
pub(super) struct CreatedApiKeyBody {
    #[serde(flatten)]
    api_key: ApiKeyBody,
    /// The text for `X-API-Key`. It is shown in this answer only.
    #[schema(pattern = "^[a-z0-9]+_[0-9a-f]{32}_[0-9a-f]{64}$")]
    key: String,
}

impl From<ApiKey> for ApiKeyBody {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name.as_str().to_owned(),
            scopes: key.scopes.to_vec(),
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}

http_server::problem_responses! {
    /// Problems of creating an API key.
    pub(super) struct CreateApiKeyProblems =
        [ANY, AUTHENTICATED, BODY, &[codes::MANAGED_BY_PROVIDER, codes::TOO_MANY_API_KEYS]];
    /// Problems of listing the own API keys.
    pub(super) struct ListApiKeysProblems =
        [ANY, AUTHENTICATED, PAGE, &[codes::MANAGED_BY_PROVIDER]];
    /// Problems of revoking an API key.
    pub(super) struct RevokeApiKeyProblems =
        [ANY, AUTHENTICATED, OBJECT, &[codes::MANAGED_BY_PROVIDER]];
}

/// Creates an API key. The key acts for the user, within its scopes and the present role of the
/// user.
#[utoipa::path(
    post,
    path = "/api/v1/api-keys",
    operation_id = "createApiKey",
    tag = "api-keys",
    security(("bearer" = [])),
    request_body = NewApiKeyBody,
    responses(
        (status = 201, body = CreatedApiKeyBody, description = "The key and its text"),
        CreateApiKeyProblems,
    )
)]
pub(super) async fn create(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ManageApiKeys>,
    Json(body): Json<NewApiKeyBody>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let name = fields.take("name", Name::parse(&body.name));
    let scopes = fields.take("scopes", service.parse_scopes(body.scopes.as_deref()));
    let expires_at = fields.take("expires_at", service.parse_expiry(body.expires_at));
    let ((name, scopes), expires_at) = fields.finish(name.zip(scopes).zip(expires_at))?;
    let created = service.create_api_key(user.id, name, scopes, expires_at);
    let (key, text) = created.await?;
    let body = CreatedApiKeyBody {
        api_key: key.into(),
        key: text.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, [NO_STORE], Json(body)))
}

/// The own API keys that have not expired, newest first, without their texts.
#[utoipa::path(
    get,
    path = "/api/v1/api-keys",
    operation_id = "listApiKeys",
    tag = "api-keys",
    security(("bearer" = [])),
    params(PageQuery),
    responses(
        (status = 200, body = PageBody<ApiKeyBody>, description = "A page of keys"),
        ListApiKeysProblems,
    )
)]
pub(super) async fn list(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ManageApiKeys>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<ApiKeyBody>>, ProblemResponse> {
    let page = service.list_api_keys(user.id, query.parse()?).await?;
    Ok(Json(page.into()))
}

/// Revokes one of the own API keys: at once on this replica, within 10 s on others.
#[utoipa::path(
    delete,
    path = "/api/v1/api-keys/{id}",
    operation_id = "revokeApiKey",
    tag = "api-keys",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The key")),
    responses(
        (status = 204, description = "Revoked"),
        RevokeApiKeyProblems,
    )
)]
pub(super) async fn revoke(
    AxumState(service): AxumState<State>,
    user: LocalUser<permissions::ManageApiKeys>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ProblemResponse> {
    service.revoke_api_key(user.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
