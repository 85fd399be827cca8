//! Background work: a named job at an interval, measured, bounded in time, and
//! stopped between two steps rather than in the middle of one.

mod config;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use prometheus::{HistogramVec, IntCounterVec};
use tracing::Instrument as _;

use crate::metrics;
use crate::platform::lifecycle::Lifecycle;
use crate::platform::observe::Cause;
use crate::platform::telemetry::metrics::LATENCY;

pub use config::Config;

metrics! {
    /// Background work.
    pub struct WorkerMetrics {
        /// Runs by outcome: `ok`, `failed`, `timeout`.
        pub runs: IntCounterVec = "worker_runs_total"["worker", "outcome"];
        /// Seconds that a run took.
        pub duration: HistogramVec = "worker_run_duration_seconds"["worker"], buckets LATENCY;
    }
}

/// A job and when it runs.
pub struct Worker {
    /// Label value and task name.
    pub name: &'static str,
    /// Time between the end of one run and the start of the next; the first run
    /// begins after a tenth of it at most, so that replicas spread.
    pub interval: Duration,
    /// Time for one run.
    pub deadline: Duration,
    /// One run, the root of a trace. It links itself to what made it necessary, when
    /// that has a trace ([`Cause::link`]). It is dropped when it exceeds its deadline,
    /// and otherwise never: a drain waits for its end.
    pub run: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>,
}

/// Starts a worker; it stops after the run that the soft token finds it in.
pub fn start(lifecycle: &Lifecycle, metrics: &WorkerMetrics, worker: Worker) {
    for outcome in ["ok", "failed", "timeout"] {
        metrics.runs.with_label_values(&[worker.name, outcome]);
    }
    metrics.duration.with_label_values(&[worker.name]);
    let metrics = metrics.clone();
    let stop = lifecycle.soft();
    lifecycle.spawn(worker.name, async move {
        let mut pause = worker.interval.mul_f64(rand::random::<f64>() / 10.0);
        let mut failed: Option<Cause> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let began = Instant::now();
            // A trace of its own; the sampler decides whether it is exported.
            let span = tracing::info_span!(
                parent: None,
                "run",
                otel.name = worker.name,
                otel.status_code = tracing::field::Empty,
            );
            let run = async {
                // The next run is there to make good what this one could not do.
                if let Some(failed) = failed.take() {
                    failed.link("retry");
                }
                let outcome = run_once(&worker, &span).await;
                if outcome != "ok" {
                    failed = Cause::current();
                }
                outcome
            };
            let outcome = run.instrument(span.clone()).await;
            metrics
                .runs
                .with_label_values(&[worker.name, outcome])
                .inc();
            let duration = metrics.duration.with_label_values(&[worker.name]);
            duration.observe(began.elapsed().as_secs_f64());
            // Up to a tenth more or less, so that replicas do not run in step.
            pause = worker.interval.mul_f64(0.9 + rand::random::<f64>() / 5.0);
        }
    });
}

/// One run; what went wrong is logged inside of its span.
async fn run_once(worker: &Worker, span: &tracing::Span) -> &'static str {
    let outcome = match tokio::time::timeout(worker.deadline, (worker.run)()).await {
        Ok(Ok(())) => return "ok",
        Ok(Err(error)) => {
            tracing::error!(
                worker = worker.name,
                error = format!("{error:#}"),
                "run failed"
            );
            "failed"
        }
        Err(_) => {
            tracing::error!(worker = worker.name, deadline = ?worker.deadline, "run too long");
            "timeout"
        }
    };
    span.record("otel.status_code", "ERROR");
    outcome
}
