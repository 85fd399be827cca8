//! Authentication layer for the routes that need it. It decides before the body is read and before
//! an upgrade begins.

mod browser;

pub use browser::{ACCESS_TOKEN_COOKIE, SameOrigin, cookie};

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{BoxFuture, Either};
use http::request::Parts;
use request::problem::codes;
use request::{
    AuthError, Authenticator, Credential, Credentials, Denied, Permission, Principal, Problem,
    RequestContext, authorize,
};
use tower::{Layer, Service};

use crate::extract::single_header;
use crate::problem::ProblemResponse;

/// Layer that lets authenticated requests through and stores their [`Principal`] in the request.
#[derive(Clone)]
pub struct AuthenticateLayer {
    /// Verifies the credentials.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whether the cookie [`ACCESS_TOKEN_COOKIE`] is a credential. The headers `Authorization` and
    /// `X-API-Key` have precedence.
    pub accept_cookie: bool,
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate {
            inner,
            layer: self.clone(),
        }
    }
}

impl AuthenticateLayer {
    fn credentials<'a>(&self, request: &'a Request) -> Result<Credentials<'a>, Problem> {
        let headers = request.headers();
        if let Some(value) = single_header(headers, "authorization")? {
            let bearer = value
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            return match bearer {
                Some((_, token)) => Ok(Credentials::Bearer(token.trim())),
                None => Err(refused()),
            };
        }
        if let Some(key) = single_header(headers, "x-api-key")? {
            return Ok(Credentials::ApiKey(key));
        }
        let token = self
            .accept_cookie
            .then(|| cookie(headers, ACCESS_TOKEN_COOKIE));
        let token = token.flatten().ok_or_else(missing)?;
        browser::check(request.method(), request.uri(), headers)?;
        Ok(Credentials::Bearer(token))
    }
}

/// The service of [`AuthenticateLayer`]. A request with recently checked credentials passes without
/// a boxed future and without a clone of the service. axum's `from_fn` makes both for every
/// request.
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    layer: AuthenticateLayer,
}

impl<S> Service<Request> for Authenticate<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let cached = self
            .layer
            .credentials(&request)
            .ok()
            .and_then(|credentials| self.layer.authenticator.cached_principal(credentials));
        if let Some(principal) = cached {
            identify(&mut request, principal, &self.layer.authenticator);
            return Either::Left(self.inner.call(request));
        }
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        Either::Right(Box::pin(authenticate(self.layer.clone(), ready, request)))
    }
}

async fn authenticate<S>(
    layer: AuthenticateLayer,
    mut inner: S,
    mut request: Request,
) -> Result<Response, Infallible>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let principal = match layer.credentials(&request) {
        Ok(credentials) => layer.authenticator.authenticate(credentials).await,
        Err(problem) => return Ok(ProblemResponse(problem).into_response()),
    };
    match principal {
        Ok(principal) => {
            identify(&mut request, principal, &layer.authenticator);
            inner.call(request).await
        }
        Err(AuthError::Refused) => Ok(ProblemResponse(refused()).into_response()),
        Err(AuthError::Unchecked(problem)) => Ok(ProblemResponse(problem).into_response()),
    }
}

/// Extension of a request, from the layer to [`Authorized`].
#[derive(Clone)]
struct Authenticated {
    principal: Principal,
    authenticator: Arc<dyn Authenticator>,
}

/// Stores the principal in the request context and in the extensions.
fn identify(
    request: &mut Request<Body>,
    principal: Principal,
    authenticator: &Arc<dyn Authenticator>,
) {
    if let Some(context) = RequestContext::current() {
        // The context is set once, because the layer wraps a route once.
        let _set = context.principal.set(principal.user);
        if let Credential::ApiKey { id, .. } = principal.credential {
            let _set = context.api_key.set(id);
        }
    }
    request.extensions_mut().insert(Authenticated {
        principal,
        authenticator: Arc::clone(authenticator),
    });
}

/// The answer to a request without credentials. Its challenge has no error code (RFC 6750, section
/// 3).
fn missing() -> Problem {
    challenged(Problem::new(
        codes::UNAUTHENTICATED,
        "The request needs an access token or an API key.",
    ))
}

/// Adds the challenge that every 401 response carries (RFC 9110, section 15.5.2).
#[must_use]
pub fn challenged(problem: Problem) -> Problem {
    problem.metadata("www-authenticate", "Bearer")
}

/// The answer to credentials that are wrong, expired or revoked. It is also the answer when the
/// user of the credentials is later found to be deleted.
#[must_use]
pub fn refused() -> Problem {
    Problem::new(
        codes::UNAUTHENTICATED,
        "The credentials are wrong, expired or revoked.",
    )
    .metadata("www-authenticate", "Bearer error=\"invalid_token\"")
}

/// The principal of a request, which has the permission `P`. A request without a principal is
/// rejected with 401, a principal without the permission with 403. It is the only extractor of a
/// principal, so that no handler has one without a decision.
pub struct Authorized<P> {
    principal: Principal,
    permission: PhantomData<fn() -> P>,
}

impl<P> Deref for Authorized<P> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<P: Permission, S: Sync> FromRequestParts<S> for Authorized<P> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let authenticated = parts.extensions.get::<Authenticated>();
        let Authenticated {
            principal,
            authenticator,
        } = authenticated.ok_or_else(missing)?;
        if let Err(reason) = authorize::<P>(principal) {
            authenticator.record_denial(principal, reason).await;
            return Err(ProblemResponse(denied(reason)));
        }
        Ok(Self {
            principal: principal.clone(),
            permission: PhantomData,
        })
    }
}

/// The answer to a principal that lacks the permission.
fn denied(reason: Denied) -> Problem {
    match reason {
        Denied::Role(role) => Problem::new(
            codes::FORBIDDEN,
            format!("The user needs the role {}.", role.as_str()),
        ),
        Denied::Scope(scope) => Problem::new(
            codes::INSUFFICIENT_SCOPE,
            format!("The API key needs the scope {}.", scope.name),
        ),
        Denied::ApiKey => Problem::new(
            codes::INSUFFICIENT_SCOPE,
            "API keys cannot do this; log in and use the access token.",
        ),
    }
}
