//! The token endpoint of OAuth 2.0 (RFC 6749, section 3.2), for clients that use a library for it.
//! It takes the grants `password`, meant for the service's own applications, and `refresh_token`.

use std::collections::BTreeMap;

use axum::extract::State as AxumState;
use axum::response::{IntoResponse as _, Response};
use http_server::description::describe;
use http_server::description::groups::{ANY, FORM};
use http_server::extract::{Form, Repeated};
use http_server::problem::ProblemResponse;
use request::Problem;
use request::problem::Code;
use secrecy::SecretString;
use serde::Serialize;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::{RefOr, Response as OpenApiResponse};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};

use super::auth::{Login, TokenBody, log_in, token_response};
use super::origin::Origin;
use super::{State, codes};
use crate::domain::SessionOrigin;
use crate::error::IdentityError;
use crate::service::TokenPair;

/// The media type of errors in the form of RFC 6749.
const ERROR_MEDIA_TYPE: &str = "application/json";

/// A token request. Parameters without a value count as absent, and unknown ones are ignored (RFC
/// 6749, section 3.2).
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct TokenRequest {
    /// `password` or `refresh_token`.
    #[schema(pattern = "^(password|refresh_token)$", example = "password")]
    grant_type: String,
    /// The registered address, for the grant `password`.
    #[schema(example = "admin@example.com")]
    username: Option<String>,
    /// The password, for the grant `password`.
    #[schema(format = Password, example = "development-only-password")]
    password: Option<String>,
    /// The token of the last login or refresh, for the grant `refresh_token`.
    #[schema(format = Password)]
    refresh_token: Option<String>,
}

/// An error in the form of RFC 6749, section 5.2. It also has the members of a problem.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "error": "invalid_grant",
    "error_description": "The address or the password is wrong.",
}))]
pub(super) struct TokenError {
    /// `invalid_request`, `invalid_grant`, `unsupported_grant_type` or `invalid_scope`.
    error: String,
    /// Description of this occurrence.
    error_description: String,
}

/// Problems of a token request. Those of RFC 6749 have its form.
struct TokenProblems;

impl IntoResponses for TokenProblems {
    fn responses() -> BTreeMap<String, RefOr<OpenApiResponse>> {
        let mut responses = describe(&[ANY, FORM]);
        if let Some(RefOr::T(bad_request)) = responses.get_mut("400") {
            let errors = ContentBuilder::new().schema(Some(TokenError::schema()));
            let errors = errors.build().into();
            bad_request.content.insert(ERROR_MEDIA_TYPE.into(), errors);
        }
        responses
    }
}

fn invalid_request(detail: String) -> Problem {
    Problem::new(codes::INVALID_REQUEST, detail)
}

fn optional(form: &mut Form, name: &'static str) -> Result<Option<String>, Problem> {
    form.take(name)
        .map_err(|Repeated| invalid_request(format!("The parameter {name} occurs more than once.")))
}

fn required(form: &mut Form, name: &'static str) -> Result<String, Problem> {
    optional(form, name)?
        .ok_or_else(|| invalid_request(format!("The parameter {name} is missing.")))
}

/// Problems of credentials are those of a grant (RFC 6749, section 5.2).
fn invalid_grant(error: IdentityError) -> Problem {
    let is_grant = matches!(
        error,
        IdentityError::InvalidCredentials
            | IdentityError::InvalidRefreshToken
            | IdentityError::RefreshTokenRotated
    );
    let problem = Problem::from(error);
    if is_grant {
        Problem::new(codes::INVALID_GRANT, problem.detail)
    } else {
        problem
    }
}

async fn grant(
    service: &State,
    origin: SessionOrigin,
    mut form: Form,
) -> Result<TokenPair, Problem> {
    let grant_type = required(&mut form, "grant_type")?;
    if optional(&mut form, "scope")?.is_some() {
        let detail = "Access tokens have no scopes; leave out scope, or use an API key.";
        return Err(Problem::new(codes::INVALID_SCOPE, detail));
    }
    let tokens = match grant_type.as_str() {
        "password" => {
            let (email, password) = (
                required(&mut form, "username")?,
                required(&mut form, "password")?,
            );
            log_in(service, Login { email, password }, origin).await
        }
        "refresh_token" => {
            let refresh_token = SecretString::from(required(&mut form, "refresh_token")?);
            service.refresh(&refresh_token, origin).await
        }
        _ => {
            let detail = "grant_type must be password or refresh_token.";
            return Err(Problem::new(codes::UNSUPPORTED_GRANT_TYPE, detail));
        }
    };
    tokens.map_err(invalid_grant)
}

/// The codes of RFC 6749, section 5.2.
const OAUTH: [&Code; 4] = [
    codes::INVALID_REQUEST,
    codes::INVALID_GRANT,
    codes::UNSUPPORTED_GRANT_TYPE,
    codes::INVALID_SCOPE,
];

fn refusal(problem: Problem) -> Response {
    if !OAUTH.contains(&problem.code) {
        return ProblemResponse(problem).into_response();
    }
    let error = TokenError {
        error: problem.code.code.to_ascii_lowercase(),
        error_description: problem.detail.clone().into_owned(),
    };
    ProblemResponse(problem).with_members(ERROR_MEDIA_TYPE, &error)
}

/// Gives tokens for a grant of OAuth 2.0. It is the login and the refresh in the form of RFC 6749.
#[utoipa::path(
    post,
    path = "/api/v1/auth/token",
    operation_id = "requestToken",
    tag = "auth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = TokenBody, description = "A pair of tokens"),
        TokenProblems,
    )
)]
pub(super) async fn token(
    AxumState(service): AxumState<State>,
    Origin(origin): Origin,
    form: Form,
) -> Response {
    match grant(&service, origin, form).await {
        Ok(tokens) => token_response(&tokens).into_response(),
        Err(problem) => refusal(problem),
    }
}
