//! What the running process spends its time and its memory on, on the admin
//! listener alone. Nothing of it runs until somebody asks.

mod tasks;

use axum::Router;
use axum::routing::get;

use crate::platform::lifecycle::Lifecycle;

/// Answers `/debug`.
#[derive(Clone)]
pub struct Profiler {
    lifecycle: Lifecycle,
}

impl Profiler {
    /// A profiler of this process.
    #[must_use]
    pub fn new(lifecycle: &Lifecycle) -> Self {
        Self {
            lifecycle: lifecycle.clone(),
        }
    }

    /// The routes below `/debug`.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/debug/tasks", get(tasks::show))
            .with_state(self)
    }
}
