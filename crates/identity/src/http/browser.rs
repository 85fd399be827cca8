//! Sessions of browsers, whose tokens are in cookies that scripts cannot read. The service offers
//! them with `auth.browser_sessions`.

use axum::extract::{FromRequestParts, State as AxumState};
use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_server::authenticate::{ACCESS_TOKEN_COOKIE, SameOrigin, cookie};
use http_server::description::groups::{ANY, BODY};
use http_server::extract::Json;
use http_server::problem::{ProblemResponse, codes as http_codes};
use request::Problem;
use secrecy::{ExposeSecret as _, SecretString};

use super::auth::{Login, NO_STORE, log_in as verify};
use super::origin::Origin;
use super::{State, codes};
use crate::error::IdentityError;
use crate::service::TokenPair;

/// Cookie with the refresh token.
const REFRESH_TOKEN_COOKIE: &str = "__Host-refresh_token";

http_server::problem_responses! {
    /// Problems of a login.
    pub(super) struct LogInProblems = [ANY, BODY, BROWSER, &[codes::INVALID_CREDENTIALS]];
    /// Problems of a refresh.
    pub(super) struct RefreshProblems =
        [ANY, BROWSER, &[codes::INVALID_REFRESH_TOKEN, codes::REFRESH_TOKEN_ROTATED]];
    /// Problems of a logout.
    pub(super) struct LogOutProblems = [ANY, BROWSER];
}

const BROWSER: &[&request::problem::Code] =
    &[http_codes::CROSS_SITE_REQUEST, codes::BROWSER_SESSIONS_OFF];

/// A request from a page of the same origin, while the service offers sessions of browsers. It is
/// rejected with 404 or 403 otherwise.
pub(super) struct FromOwnPage;

impl FromRequestParts<State> for FromOwnPage {
    type Rejection = ProblemResponse;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &State,
    ) -> Result<Self, ProblemResponse> {
        if !service.browser_sessions() {
            let detail = "auth.browser_sessions is off; use /api/v1/auth/login.";
            return Err(Problem::new(codes::BROWSER_SESSIONS_OFF, detail).into());
        }
        SameOrigin::from_request_parts(parts, service).await?;
        Ok(Self)
    }
}

/// A cookie that the browser sends only over TLS, only to this host and only from its own pages, and
/// that no script can read.
fn protected(name: &'static str, value: &str, max_age: std::time::Duration) -> Option<HeaderValue> {
    let cookie = Cookie::build((name, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(max_age.try_into().unwrap_or(time::Duration::MAX));
    HeaderValue::try_from(cookie.to_string()).ok()
}

/// Sets or, with a lifetime of zero, removes both cookies.
fn set_cookies(response: &mut Response, [access, refresh]: [(&str, std::time::Duration); 2]) {
    for (name, (value, max_age)) in [
        (ACCESS_TOKEN_COOKIE, access),
        (REFRESH_TOKEN_COOKIE, refresh),
    ] {
        if let Some(cookie) = protected(name, value, max_age) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

fn with_tokens(tokens: &TokenPair) -> Response {
    let mut response = (StatusCode::NO_CONTENT, [NO_STORE]).into_response();
    let access = (tokens.access_token.expose_secret(), tokens.expires_in);
    let refresh = (
        tokens.refresh_token.expose_secret(),
        tokens.refresh_expires_in,
    );
    set_cookies(&mut response, [access, refresh]);
    response
}

fn without_tokens(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    set_cookies(&mut response, [("", std::time::Duration::ZERO); 2]);
    response
}

fn refresh_token(headers: &HeaderMap) -> Option<SecretString> {
    cookie(headers, REFRESH_TOKEN_COOKIE).map(SecretString::from)
}

/// Logs in with address and password. The tokens are in the cookies `__Host-access_token` and
/// `__Host-refresh_token`. Only pages of the same origin may do this.
#[utoipa::path(
    post,
    path = "/api/v1/auth/browser/login",
    operation_id = "logInBrowser",
    tag = "auth",
    request_body = Login,
    responses(
        (status = 204, description = "The cookies are set"),
        LogInProblems,
    )
)]
pub(super) async fn log_in(
    _: FromOwnPage,
    AxumState(service): AxumState<State>,
    Origin(origin): Origin,
    Json(body): Json<Login>,
) -> Result<Response, ProblemResponse> {
    let tokens = verify(&service, body, origin).await?;
    Ok(with_tokens(&tokens))
}

/// Exchanges the refresh token of the cookie for new tokens in the cookies. A refresh token that is
/// not valid is removed from the cookies.
#[utoipa::path(
    post,
    path = "/api/v1/auth/browser/refresh",
    operation_id = "refreshBrowser",
    tag = "auth",
    responses(
        (status = 204, description = "The cookies are set"),
        RefreshProblems,
    )
)]
pub(super) async fn refresh(
    _: FromOwnPage,
    AxumState(service): AxumState<State>,
    Origin(origin): Origin,
    headers: HeaderMap,
) -> Result<Response, ProblemResponse> {
    let tokens = match refresh_token(&headers) {
        Some(token) => service.refresh(&token, origin).await,
        None => Err(IdentityError::InvalidRefreshToken),
    };
    match tokens {
        Ok(tokens) => Ok(with_tokens(&tokens)),
        Err(error @ IdentityError::InvalidRefreshToken) => {
            Ok(without_tokens(ProblemResponse::from(error)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends the session of the cookies, and with it its access tokens, and removes the cookies.
#[utoipa::path(
    post,
    path = "/api/v1/auth/browser/logout",
    operation_id = "logOutBrowser",
    tag = "auth",
    responses(
        (status = 204, description = "Ended"),
        LogOutProblems,
    )
)]
pub(super) async fn log_out(
    _: FromOwnPage,
    AxumState(service): AxumState<State>,
    headers: HeaderMap,
) -> Result<Response, ProblemResponse> {
    if let Some(token) = refresh_token(&headers) {
        service.logout(&token).await?;
    }
    Ok(without_tokens(StatusCode::NO_CONTENT))
}
