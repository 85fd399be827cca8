//! Routes of the slice, in groups that `app` puts behind different layers.

mod administration;
mod api_keys;
mod audit;
mod auth;
mod browser;
mod jwks;
mod local_user;
mod origin;
mod permissions;
mod sessions;
mod token;
mod users;

pub use permissions::scopes;

use std::sync::Arc;

use http_server::authenticate::{challenged, refused};
use http_server::problem;
use request::{Problem, Role};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{
    ApiKey as SchemeOfApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme,
};
use utoipa::openapi::{Object, ObjectBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::domain::User;
use super::error::IdentityError;
use super::service::Service;

/// State of the handlers.
pub type State = Arc<Service>;

/// Problems of this slice.
pub mod codes {
    request::problem_codes! {
        /// The address is unknown or the password is wrong. The answer does not say which.
        pub INVALID_CREDENTIALS = 401, "Wrong credentials";
        /// The refresh token is unknown, expired, revoked or reused. Reuse after the grace period
        /// revokes all refresh tokens of the login. Log in again.
        pub INVALID_REFRESH_TOKEN = 401, "The refresh token is not valid";
        /// The grant type is neither `password` nor `refresh_token` (RFC 6749, section 5.2).
        pub UNSUPPORTED_GRANT_TYPE = 400, "The grant type is not supported";
        /// The credentials of the grant are wrong, expired, revoked or were used before (RFC 6749,
        /// section 5.2).
        pub INVALID_GRANT = 400, "The grant is not valid";
        /// A parameter is missing or repeated (RFC 6749, section 5.2).
        pub INVALID_REQUEST = 400, "The token request is not valid";
        /// Access tokens have no scopes (RFC 6749, section 5.2). API keys do.
        pub INVALID_SCOPE = 400, "The scope is not valid";
        /// `auth.browser_sessions` is off in this service.
        pub BROWSER_SESSIONS_OFF = 404, "There are no browser sessions";
        /// `current_password` is wrong.
        pub WRONG_PASSWORD = 403, "Wrong password";
        /// The user belongs to an identity provider, which keeps name, address and password. The
        /// account here is an id without personal data.
        pub MANAGED_BY_PROVIDER = 403, "The identity provider manages this user";
        /// Another user has registered this address.
        pub EMAIL_TAKEN = 409, "The e-mail address is taken";
        /// The user has `auth.max_api_keys` API keys. Revoke one of them first.
        pub TOO_MANY_API_KEYS = 409, "Too many API keys";
        /// The user is the only administrator. Appoint another administrator first.
        pub LAST_ADMINISTRATOR = 409, "The user is the last administrator";
        /// The refresh token was rotated within `auth.refresh_grace`, for example by a request at
        /// the same time. Use the successor. Nothing is revoked.
        pub REFRESH_TOKEN_ROTATED = 409, "The refresh token was just rotated";
    }
}

/// Registration, login, refresh and logout. They need no authentication and have the stricter
/// limit.
pub fn auth_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(auth::register))
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(token::token))
        .routes(routes!(browser::log_in))
        .routes(routes!(browser::refresh))
        .routes(routes!(browser::log_out))
}

/// The own account, its sessions and API keys. The routes need authentication.
pub fn user_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(users::read, users::update, users::erase))
        .routes(routes!(users::change_password))
        .routes(routes!(sessions::list, sessions::end_all))
        .routes(routes!(sessions::end))
        .routes(routes!(api_keys::create, api_keys::list))
        .routes(routes!(api_keys::revoke))
}

/// The users of the service and the audit trail. The routes need an administrator.
pub fn administration_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(audit::list))
        .routes(routes!(administration::list))
        .routes(routes!(
            administration::read,
            administration::change_role,
            administration::erase
        ))
        .routes(routes!(administration::end_sessions))
}

/// The public keys. They need no authentication.
pub fn key_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(jwks::get))
}

/// The security schemes that operations name in their `security`. The lists behind the names have
/// the role that a bearer token needs, or the scope that an API key needs.
#[must_use]
pub fn security_schemes() -> [(&'static str, SecurityScheme); 2] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "An access token from /api/v1/auth/login, or of an identity provider (RFC 9068)",
        ))
        .build();
    let api_key = ApiKeyValue::with_description("X-API-Key", "An API key from /api/v1/api-keys");
    [
        ("bearer", SecurityScheme::Http(bearer)),
        (
            "api_key",
            SecurityScheme::ApiKey(SchemeOfApiKey::Header(api_key)),
        ),
    ]
}

/// A user as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = User, example = json!({
    "id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "role": "user",
    "created_at": "2026-11-21T09:00:00Z",
}))]
struct UserBody {
    /// UUIDv7.
    id: Uuid,
    /// Normalised, in lower case.
    #[schema(format = Email)]
    email: String,
    /// Name of the user.
    name: String,
    /// The role. Each has the permissions of those before it.
    #[schema(schema_with = role_schema)]
    role: &'static str,
    /// Time of the registration.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// The words of the roles.
fn role_schema() -> Object {
    let words = Role::ALL.map(Role::as_str);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            role: user.role.as_str(),
            created_at: user.created_at,
        }
    }
}

/// `Retry-After` in seconds when too many hashes run. A hash takes a few hundredths of
/// a second.
const HASH_RETRY_SECONDS: u64 = 1;

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::EmailTaken => Self::new(
                codes::EMAIL_TAKEN,
                "Another user has registered this address.",
            ),
            IdentityError::InvalidCredentials => challenged(Self::new(
                codes::INVALID_CREDENTIALS,
                "The address or the password is wrong.",
            )),
            IdentityError::WrongPassword => {
                Self::new(codes::WRONG_PASSWORD, "The current password is wrong.")
            }
            IdentityError::InvalidRefreshToken => challenged(Self::new(
                codes::INVALID_REFRESH_TOKEN,
                "The refresh token is unknown, expired or revoked; log in again.",
            )),
            IdentityError::RefreshTokenRotated => Self::new(
                codes::REFRESH_TOKEN_ROTATED,
                "The refresh token was rotated a moment ago; use its successor.",
            ),
            IdentityError::NoSuchUser => refused(),
            IdentityError::NoSuchApiKey => Self::new(
                problem::codes::NOT_FOUND,
                "You have no API key with this id.",
            ),
            IdentityError::TooManyApiKeys => Self::new(
                codes::TOO_MANY_API_KEYS,
                "You have as many API keys as the service allows; revoke one of them first.",
            ),
            IdentityError::NoSuchSession => Self::new(
                problem::codes::NOT_FOUND,
                "You have no open session with this id.",
            ),
            IdentityError::VersionMismatch => Self::new(
                problem::codes::PRECONDITION_FAILED,
                "The user has changed since the version that If-Match names.",
            ),
            IdentityError::LastAdministrator => Self::new(
                codes::LAST_ADMINISTRATOR,
                "Without this user the service would have no administrator; appoint another one first.",
            ),
            IdentityError::ErasureRefused(problem) => problem,
            IdentityError::RateLimited(refusal) => refusal.into(),
            IdentityError::Overloaded => Self::new(
                problem::codes::OVERLOADED,
                "Too many passwords are being checked at once; try again.",
            )
            .retry_after(HASH_RETRY_SECONDS),
            IdentityError::Database(error) => error.into(),
            IdentityError::Defect(_) => Self::internal(error),
        }
    }
}
