//! Registration, login, refresh, logout.

use axum::extract::State as AxumState;
use axum::response::IntoResponse;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_server::description::groups::{ANY, BODY};
use http_server::extract::Json;
use http_server::problem::ProblemResponse;
use request::Fields;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::origin::Origin;
use super::{State, UserBody, codes};
use crate::domain::{Email, Name, Password, SessionOrigin};
use crate::error::IdentityError;
use crate::service::TokenPair;

/// A registration.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "email": "ada@example.com", "name": "Ada Lovelace", "password": "correct horse battery staple",
}))]
pub(super) struct Registration {
    /// Unique among users. Forms of one address that differ in case or Unicode form are the same.
    /// Invisible characters are refused.
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// 1 to 100 characters, at least one of them visible. Control characters and controls of text
    /// direction are refused.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// At least 12 characters, at most 256 bytes. Common words, sequences, repetitions and the own
    /// address are refused.
    #[schema(format = Password, min_length = 12, max_length = 256)]
    password: String,
}

/// Credentials of a login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
// The administrator that a development process creates, so that the example logs in unchanged.
#[schema(example = json!({
    "email": "admin@example.com", "password": "development-only-password",
}))]
pub(super) struct Login {
    /// The registered address.
    pub(super) email: String,
    /// The password.
    #[schema(format = Password)]
    pub(super) password: String,
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "refresh_token": "3q2-7wXkP0mVb1dJt5rZcQyHs8uAeLgNfTiWoKjMxYE" }))]
pub(super) struct RefreshRequest {
    /// The token of the last login or refresh.
    #[schema(format = Password)]
    refresh_token: String,
}

/// A pair of tokens.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "access_token": "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSIsImtpZCI6IjIwMjYtMTEifQ.e30.c2ln",
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "3q2-7wXkP0mVb1dJt5rZcQyHs8uAeLgNfTiWoKjMxYE",
}))]
pub(super) struct TokenBody {
    /// For `Authorization: Bearer`. A JWT in the shape of RFC 9068.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Lifetime of the access token, in seconds.
    expires_in: u64,
    /// For the next refresh. It is valid once.
    refresh_token: String,
}

http_server::problem_responses! {
    /// Problems of a registration.
    pub(super) struct RegisterProblems = [ANY, BODY, &[codes::EMAIL_TAKEN]];
    /// Problems of a login.
    pub(super) struct LoginProblems = [ANY, BODY, &[codes::INVALID_CREDENTIALS]];
    /// Problems of a refresh.
    pub(super) struct RefreshProblems =
        [ANY, BODY, &[codes::INVALID_REFRESH_TOKEN, codes::REFRESH_TOKEN_ROTATED]];
    /// Problems of a logout.
    pub(super) struct LogoutProblems = [ANY, BODY];
}

/// Answers with tokens or keys must not be stored (RFC 6749, section 5.1).
pub(super) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

pub(super) fn token_response(tokens: &TokenPair) -> impl IntoResponse + use<> {
    let body = TokenBody {
        access_token: tokens.access_token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: tokens.expires_in.as_secs(),
        refresh_token: tokens.refresh_token.expose_secret().to_owned(),
    };
    ([NO_STORE], Json(body))
}

/// Registers a user.
#[utoipa::path(
    post,
    path = "/api/v1/auth/register",
    operation_id = "registerUser",
    tag = "auth",
    request_body = Registration,
    responses(
        (status = 201, body = UserBody, description = "The new user"),
        RegisterProblems,
    )
)]
pub(super) async fn register(
    AxumState(service): AxumState<State>,
    Json(body): Json<Registration>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let email = fields.take("email", Email::parse(&body.email));
    let name = fields.take("name", Name::parse(&body.name));
    let password = fields.take(
        "password",
        service.parse_new_password(body.password, email.as_ref()),
    );
    let parsed = email.zip(name).zip(password);
    let ((email, name), password) = fields
        .finish(parsed)
        .inspect_err(|_| service.count_invalid_registration())?;
    let user = service.register(email, name, password).await?;
    Ok((StatusCode::CREATED, Json(UserBody::from(user))))
}

/// Logs in with address and password.
#[utoipa::path(
    post,
    path = "/api/v1/auth/login",
    operation_id = "logIn",
    tag = "auth",
    request_body = Login,
    responses(
        (status = 200, body = TokenBody, description = "A pair of tokens"),
        LoginProblems,
    )
)]
pub(super) async fn login(
    AxumState(service): AxumState<State>,
    Origin(origin): Origin,
    Json(body): Json<Login>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let tokens = log_in(&service, body, origin).await?;
    Ok(token_response(&tokens))
}

/// Logs in. A text that cannot be an address or a password counts as wrong, so the answer does not
/// reveal why a login failed.
pub(super) async fn log_in(
    service: &State,
    login: Login,
    origin: SessionOrigin,
) -> Result<TokenPair, IdentityError> {
    let emails = Email::login_candidates(&login.email);
    let password = Password::for_verification(login.password);
    service.login(emails, password, origin).await
}

/// Exchanges a refresh token for a new pair. Each refresh token is valid once. Reuse after the
/// grace period revokes all refresh tokens of the same login.
#[utoipa::path(
    post,
    path = "/api/v1/auth/refresh",
    operation_id = "refreshTokens",
    tag = "auth",
    request_body = RefreshRequest,
    responses(
        (status = 200, body = TokenBody, description = "A pair of tokens"),
        RefreshProblems,
    )
)]
pub(super) async fn refresh(
    AxumState(service): AxumState<State>,
    Origin(origin): Origin,
    Json(body): Json<RefreshRequest>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let refresh_token = SecretString::from(body.refresh_token);
    let tokens = service.refresh(&refresh_token, origin).await?;
    Ok(token_response(&tokens))
}

/// Ends the session of a refresh token, and with it its access tokens. An unknown token is not an error,
/// because it is not valid anyway.
#[utoipa::path(
    post,
    path = "/api/v1/auth/logout",
    operation_id = "logOut",
    tag = "auth",
    request_body = RefreshRequest,
    responses(
        (status = 204, description = "Revoked"),
        LogoutProblems,
    )
)]
pub(super) async fn logout(
    AxumState(service): AxumState<State>,
    Json(body): Json<RefreshRequest>,
) -> Result<StatusCode, ProblemResponse> {
    let refresh_token = SecretString::from(body.refresh_token);
    service.logout(&refresh_token).await?;
    Ok(StatusCode::NO_CONTENT)
}
