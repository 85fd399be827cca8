//! The smallest endpoint. It passes through the whole middleware stack.

use http_server::extract::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this slice.
pub fn routes() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(ping))
}

/// The answer to a ping.
#[derive(Serialize, ToSchema)]
struct Pong {
    /// Always `pong`.
    message: &'static str,
}

/// Answers `pong`.
#[utoipa::path(
    get,
    path = "/api/v1/ping",
    operation_id = "ping",
    tag = "ping",
    responses((status = 200, body = Pong))
)]
async fn ping() -> Json<Pong> {
    Json(Pong { message: "pong" })
}
