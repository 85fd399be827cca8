//! The user of a request, if this service has an account for it.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http_server::authenticate::RequirePrincipal;
use http_server::problem::ProblemResponse;
use request::Problem;
use uuid::Uuid;

use super::codes;
use crate::domain::is_outside_user;

/// The id of a user with name, address and password in this service. Users of outside issuers are
/// rejected with 403, because their provider has these.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalUser(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for LocalUser {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        let RequirePrincipal(principal) =
            RequirePrincipal::from_request_parts(parts, state).await?;
        if is_outside_user(principal.user) {
            let detail = "The identity provider of this user manages it.";
            return Err(Problem::new(codes::MANAGED_BY_PROVIDER, detail).into());
        }
        Ok(Self(principal.user))
    }
}
