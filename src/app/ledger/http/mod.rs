//! The ledger over HTTP. Every route needs an authenticated user. `app` adds the layer for that.

mod accounts;
mod deposits;
mod problems;
mod transfers;

pub use problems::codes;

use http::HeaderMap;
use http_server::extract::single_header;
use http_server::problem;
use request::Problem;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ledger;
use super::domain::IdempotencyKey;

/// The routes of this slice.
pub fn routes() -> OpenApiRouter<Ledger> {
    OpenApiRouter::new()
        .routes(routes!(accounts::open, accounts::list))
        .routes(routes!(accounts::read))
        .routes(routes!(deposits::create))
        .routes(routes!(transfers::create, transfers::list))
        .routes(routes!(transfers::read))
}

/// Reads the `Idempotency-Key` of a request.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(text) = single_header(headers, "idempotency-key")? else {
        return Ok(None);
    };
    IdempotencyKey::parse(text).map(Some).ok_or_else(|| {
        Problem::new(
            problem::codes::INVALID_HEADER,
            "The header Idempotency-Key must have 1 to 255 visible ASCII characters.",
        )
    })
}
