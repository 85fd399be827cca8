//! Profiles of the running process, on the admin listener only. They run on request only, one at a
//! time and for a limited time.

mod cpu;
mod format;
mod heap;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use http_server::extract::Json;
use lifecycle::Lifecycle;
use request::Problem;
use request::problem::codes::INVALID_QUERY;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Problems of profiles.
pub mod codes {
    request::problem_codes! {
        /// Another profile of this process is being taken. Only one is taken at a time.
        pub PROFILE_RUNNING = 409, "A profile is running";
    }
}

/// Longest profile, in seconds.
const MAX_SECONDS: u64 = 60;

/// State of the endpoints below `/debug`.
#[derive(Clone)]
pub struct Profiler {
    lifecycle: Lifecycle,
    one: Arc<Semaphore>,
}

impl Profiler {
    /// A profiler of this process.
    #[must_use]
    pub fn new(lifecycle: &Lifecycle) -> Self {
        Self {
            lifecycle: lifecycle.clone(),
            one: Arc::new(Semaphore::new(1)),
        }
    }

    /// The routes below `/debug`.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/debug", get(index))
            .route("/debug/", get(index))
            .route("/debug/tasks", get(tasks::show))
            .route("/debug/pprof/profile", get(cpu::profile))
            .route("/debug/pprof/heap", get(heap::profile))
            .with_state(self)
    }

    /// The right to take a profile, until it is dropped.
    fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.one).try_acquire_owned();
        permit.map_err(|_| {
            let detail = "Another profile is being taken; wait for its end.";
            Problem::new(codes::PROFILE_RUNNING, detail)
        })
    }
}

/// Lists the endpoints below `/debug`.
async fn index() -> Json<Value> {
    let entry = |path: &str, description: &str| json!({ "path": path, "description": description });
    Json(json!({ "items": [
        entry("/debug/tasks", "Tasks, workers and the runtime's queues, now"),
        entry(
            "/debug/pprof/profile?seconds=10&format=pprof",
            "CPU profile; seconds from 1 to 60; format pprof or svg, a flame graph",
        ),
        entry(
            "/debug/pprof/heap?seconds=10&format=pprof",
            "Memory that is allocated in that time and kept; the same parameters",
        ),
    ]}))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The protocol buffer of google/pprof, uncompressed.
    #[default]
    Pprof,
    /// A flame graph.
    Svg,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileRequest {
    #[serde(default = "ten")]
    seconds: u64,
    #[serde(default)]
    format: Format,
}

fn ten() -> u64 {
    10
}

impl ProfileRequest {
    fn time(&self) -> Result<Duration, Problem> {
        if (1..=MAX_SECONDS).contains(&self.seconds) {
            return Ok(Duration::from_secs(self.seconds));
        }
        let detail = format!("seconds must lie between 1 and {MAX_SECONDS}.");
        Err(Problem::new(INVALID_QUERY, detail))
    }
}

fn pprof(profile: Vec<u8>) -> Response {
    let media_type = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, media_type)], profile).into_response()
}

fn svg(image: Vec<u8>) -> Response {
    let media_type = HeaderValue::from_static("image/svg+xml");
    ([(header::CONTENT_TYPE, media_type)], image).into_response()
}
