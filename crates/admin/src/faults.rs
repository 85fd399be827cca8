//! `/faults` on the admin listener.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http_server::extract::{Json, Query};
use http_server::problem::ProblemResponse;
use request::faults::{FaultSpec, Faults};
use serde::Deserialize;
use serde_json::json;

/// Routes that list, set and clear faults. They exist only if faults are allowed.
pub(crate) fn routes(faults: Faults) -> Router {
    Router::new()
        .route("/faults", get(list).put(set).delete(clear))
        .with_state(faults)
}

async fn list(State(faults): State<Faults>) -> impl IntoResponse {
    state(&faults)
}

async fn set(
    State(faults): State<Faults>,
    Json(spec): Json<FaultSpec>,
) -> Result<impl IntoResponse, ProblemResponse> {
    faults.set(spec)?;
    Ok(state(&faults))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultSelection {
    path: Option<String>,
}

async fn clear(
    State(faults): State<Faults>,
    Query(which): Query<FaultSelection>,
) -> Result<impl IntoResponse, ProblemResponse> {
    faults.clear(which.path.as_deref())?;
    Ok(state(&faults))
}

fn state(faults: &Faults) -> impl IntoResponse + use<> {
    Json(json!({ "items": faults.list() }))
}
