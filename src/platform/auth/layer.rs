//! Authentication as a layer at the routes that need it: decided before the body
//! is read or an upgrade begins.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use super::{AuthError, Authenticator, Credentials, Principal, Role};
use crate::platform::http::extract::single_header;
use crate::platform::http::problem::{Problem, codes};
use crate::platform::observe::RequestContext;

/// Lets authenticated requests through, with their [`Principal`]. Use it with
/// `axum::middleware::from_fn_with_state`.
pub async fn authenticate(
    State(authenticator): State<Arc<dyn Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = match credentials(request.headers()) {
        Ok(Some(credentials)) => authenticator.authenticate(credentials).await,
        Ok(None) => return missing().into_response(),
        Err(problem) => return problem.into_response(),
    };
    match principal {
        Ok(principal) => {
            if let Some(context) = RequestContext::current() {
                // Once a request: the layer stands once around a route.
                let _set = context.principal.set(principal.user);
            }
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(AuthError::Refused) => refused().into_response(),
        Err(AuthError::Database(error)) => Problem::from(error).into_response(),
    }
}

fn credentials(headers: &HeaderMap) -> Result<Option<Credentials<'_>>, Problem> {
    if let Some(value) = single_header(headers, "authorization")? {
        let bearer = value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return match bearer {
            Some((_, token)) => Ok(Some(Credentials::Bearer(token.trim()))),
            None => Err(refused()),
        };
    }
    Ok(single_header(headers, "x-api-key")?.map(Credentials::ApiKey))
}

/// RFC 6750, section 3: without credentials the challenge says no more than how.
fn missing() -> Problem {
    challenged(Problem::new(
        codes::UNAUTHENTICATED,
        "This needs an access token or an API key.",
    ))
}

/// Adds the challenge that every 401 carries (RFC 9110, section 15.5.2).
#[must_use]
pub fn challenged(problem: Problem) -> Problem {
    problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// The answer to credentials that are not good; also when the user behind them is
/// found to be gone only later.
#[must_use]
pub fn refused() -> Problem {
    Problem::new(
        codes::UNAUTHENTICATED,
        "The credentials are wrong, expired or revoked.",
    )
    .header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer error=\"invalid_token\""),
    )
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(missing)
    }
}

/// A principal that is an administrator; anyone else is 403.
#[derive(Debug, Clone, Copy)]
pub struct RequireAdmin(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for RequireAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let principal = Principal::from_request_parts(parts, state).await?;
        if principal.role == Role::Admin {
            Ok(Self(principal))
        } else {
            Err(Problem::new(
                codes::FORBIDDEN,
                "Only administrators may do this.",
            ))
        }
    }
}
