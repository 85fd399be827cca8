//! The user of a request, if this service has an account for it.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http_server::authenticate::Authorized;
use http_server::problem::ProblemResponse;
use request::{Permission, Problem};
use uuid::Uuid;

use super::codes;
use crate::domain::is_outside_user;

/// A user with name, address and password in this service, who has the permission `P`. Users of
/// outside issuers are rejected with 403, because their provider has these.
pub(super) struct LocalUser<P> {
    /// The user.
    pub(super) id: Uuid,
    permission: PhantomData<fn() -> P>,
}

impl<P: Permission, S: Sync> FromRequestParts<S> for LocalUser<P> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        let principal = Authorized::<P>::from_request_parts(parts, state).await?;
        if is_outside_user(principal.user) {
            let detail = "The identity provider of this user manages it.";
            return Err(Problem::new(codes::MANAGED_BY_PROVIDER, detail).into());
        }
        Ok(Self {
            id: principal.user,
            permission: PhantomData,
        })
    }
}
