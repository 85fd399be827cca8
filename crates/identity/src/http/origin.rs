//! The origin of a session, from a request.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use request::RequestContext;

use crate::domain::SessionOrigin;

/// The client that a session is recorded with: `User-Agent`, and the network of the address that
/// was resolved through trusted proxies.
pub(super) struct Origin(pub(super) SessionOrigin);

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let user_agent = parts.headers.get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        let origin = RequestContext::current()
            .map(|context| SessionOrigin::new(user_agent, context.client_address));
        Ok(Self(origin.unwrap_or_default()))
    }
}
