//! The ledger over HTTP. Every route needs an authenticated user. `app` adds the layer for that.

mod accounts;
mod deposits;
mod permissions;
mod problems;
mod transfers;

pub use permissions::scopes;
pub use problems::codes;

use http::{HeaderName, HeaderValue, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ledger;

/// The routes of this slice.
pub fn routes() -> OpenApiRouter<Ledger> {
    OpenApiRouter::new()
        .routes(routes!(accounts::open, accounts::list))
        .routes(routes!(accounts::read))
        .routes(routes!(deposits::create))
        .routes(routes!(transfers::create, transfers::list))
        .routes(routes!(transfers::read))
}

/// The `Location` header of a created object.
fn location(path: &str) -> Option<[(HeaderName, HeaderValue); 1]> {
    let value = HeaderValue::from_str(path).ok()?;
    Some([(header::LOCATION, value)])
}
