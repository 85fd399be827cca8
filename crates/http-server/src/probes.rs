//! The probes of the kubelet and of load balancers. They read memory and call no dependency.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use lifecycle::health::Health;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

const LIVE: &str = "/health/live";
const STARTUP: &str = "/health/startup";
const READY: &str = "/health/ready";
/// The paths of all probes.
pub const PROBES: [&str; 3] = [LIVE, STARTUP, READY];

/// Level of detail of an answer of `/health/ready`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// `{"status": …}`, for the public listener.
    Status,
    /// Every check with its last error, for the admin listener.
    Checks,
}

/// The routes of all probes.
pub fn routes(health: Health, detail: Detail) -> Router {
    Router::new()
        .route(LIVE, get(live))
        .route(STARTUP, get(startup))
        .route(READY, get(ready))
        .with_state((health, detail))
}

async fn live(State((health, _)): State<(Health, Detail)>) -> Response {
    terse(health.is_live())
}

async fn startup(State((health, _)): State<(Health, Detail)>) -> Response {
    terse(health.is_initialised())
}

async fn ready(State((health, detail)): State<(Health, Detail)>) -> Response {
    let ready = health.is_ready();
    if detail == Detail::Status {
        return terse(ready);
    }
    let (status, word) = words(ready);
    let checks = health.report().into_iter().map(|check| {
        let entry = json!({
            "up": check.up,
            "critical": check.critical,
            "since": check.since.format(&Rfc3339).unwrap_or_default(),
            "last_error": check.last_error.filter(|_| !check.up),
        });
        (check.name.into_owned(), entry)
    });
    let checks: serde_json::Map<_, _> = checks.collect();
    let state = health.state().as_str();
    let body = json!({ "status": word, "state": state, "checks": checks });
    (status, Json(body)).into_response()
}

fn words(good: bool) -> (StatusCode, &'static str) {
    if good {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    }
}

fn terse(good: bool) -> Response {
    let (status, word) = words(good);
    (status, Json(json!({ "status": word }))).into_response()
}
