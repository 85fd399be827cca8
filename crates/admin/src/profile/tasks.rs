//! `/debug/tasks`: tasks, workers and queues of the process.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::IntoResponse;
use http_server::extract::Json;
use serde::Serialize;
use tokio::runtime::Handle;

use super::Profiler;

#[derive(Serialize)]
struct Tasks {
    lifecycle: &'static str,
    /// Number of tracked tasks, by name.
    tracked: BTreeMap<Cow<'static, str>, usize>,
    runtime: Runtime,
    workers: Vec<Worker>,
}

/// Figures of the Tokio runtime. The last two need a build with `--cfg tokio_unstable`.
#[derive(Serialize)]
struct Runtime {
    workers: usize,
    /// Tasks of the runtime, including connections and requests.
    alive_tasks: usize,
    /// Tasks that wait in the queue that all workers share.
    global_queue_depth: usize,
    /// Threads for blocking work, such as reading files.
    #[cfg(tokio_unstable)]
    blocking_threads: usize,
    /// Blocking work that waits for a thread.
    #[cfg(tokio_unstable)]
    blocking_queue_depth: usize,
}

/// Figures of a worker. The last three need a build with `--cfg tokio_unstable`.
#[derive(Serialize)]
struct Worker {
    busy_seconds: f64,
    /// Number of times that the worker had no work.
    parks: u64,
    #[cfg(tokio_unstable)]
    polls: u64,
    /// Mean time of recent polls. A long poll blocks the worker.
    #[cfg(tokio_unstable)]
    mean_poll_seconds: f64,
    /// Tasks that wait for this worker.
    #[cfg(tokio_unstable)]
    local_queue_depth: usize,
}

pub(crate) async fn show(State(profiler): State<Profiler>) -> impl IntoResponse {
    let mut tracked = BTreeMap::new();
    for name in profiler.lifecycle.still_running() {
        *tracked.entry(name).or_default() += 1;
    }
    let metrics = Handle::current().metrics();
    let worker = |index| Worker {
        busy_seconds: metrics.worker_total_busy_duration(index).as_secs_f64(),
        parks: metrics.worker_park_count(index),
        #[cfg(tokio_unstable)]
        polls: metrics.worker_poll_count(index),
        #[cfg(tokio_unstable)]
        mean_poll_seconds: metrics.worker_mean_poll_time(index).as_secs_f64(),
        #[cfg(tokio_unstable)]
        local_queue_depth: metrics.worker_local_queue_depth(index),
    };
    Json(Tasks {
        lifecycle: profiler.lifecycle.state().as_str(),
        tracked,
        workers: (0..metrics.num_workers()).map(worker).collect(),
        runtime: Runtime {
            workers: metrics.num_workers(),
            alive_tasks: metrics.num_alive_tasks(),
            global_queue_depth: metrics.global_queue_depth(),
            #[cfg(tokio_unstable)]
            blocking_threads: metrics.num_blocking_threads(),
            #[cfg(tokio_unstable)]
            blocking_queue_depth: metrics.blocking_queue_depth(),
        },
    })
}
