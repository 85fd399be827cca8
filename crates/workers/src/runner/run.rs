//! One run of a worker.

use std::time::Duration;

use db::{DbError, ExclusiveLock};
use request::SpanLink;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{NextRun, Runner, Worker};

/// Interval at which a run verifies that it still holds its lock.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok(NextRun),
    Failed,
    Timeout,
    Skipped,
    Cut,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] = [
        Self::Ok(NextRun::AsScheduled),
        Self::Failed,
        Self::Timeout,
        Self::Skipped,
        Self::Cut,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
            Self::Cut => "cut",
        }
    }

    /// Returns true if the work was done, here or elsewhere.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Ok(_) | Self::Skipped)
    }
}

tokio::task_local! {
    /// Cancelled when the current run should stop.
    static STOP: CancellationToken;
}

/// Returns true if the current run should stop at its next safe point, for example between two
/// batches. Always false outside of a run.
#[must_use]
pub fn stopping() -> bool {
    STOP.try_with(CancellationToken::is_cancelled)
        .unwrap_or(false)
}

/// Runs a worker once. Failures are logged inside of its span. `failed` stores the span of a failed
/// run, and the next run links to it.
pub(crate) async fn run_once(
    worker: &Worker,
    runner: &Runner,
    failed: &mut Option<SpanLink>,
) -> Outcome {
    // The root of its own trace. The sampler decides whether it is exported.
    let span = tracing::info_span!(
        parent: None,
        "run",
        otel.name = worker.name,
        otel.status_code = tracing::field::Empty,
    );
    let hard = runner.lifecycle.hard();
    let stop = runner.lifecycle.soft().child_token();
    let run = async {
        // This run repeats the work of the failed one.
        if let Some(failed) = failed.take() {
            failed.link("retry");
        }
        let outcome = tokio::select! {
            () = hard.cancelled() => Outcome::Cut,
            outcome = tokio::time::timeout(worker.deadline, run_with_lock(worker, runner, &stop)) => {
                outcome.unwrap_or_else(|_| {
                    tracing::error!(worker = worker.name, deadline = ?worker.deadline, "a worker run exceeded its time limit");
                    Outcome::Timeout
                })
            }
        };
        if !outcome.is_good() {
            *failed = SpanLink::current();
        }
        outcome
    };
    let outcome = run.instrument(span.clone()).await;
    if !outcome.is_good() {
        span.record("otel.status_code", "ERROR");
    }
    span.in_scope(|| {
        tracing::debug!(
            worker = worker.name,
            outcome = outcome.as_str(),
            "a worker run has ended"
        );
    });
    outcome
}

/// Runs a worker. Takes its lock first if at most one replica may run it at a time.
async fn run_with_lock(worker: &Worker, runner: &Runner, stop: &CancellationToken) -> Outcome {
    if !worker.exclusive {
        return work(worker, runner, stop).await;
    }
    // No work has begun, so a drain does not wait for a server that does not answer.
    let taken = tokio::select! {
        () = stop.cancelled() => return Outcome::Skipped,
        taken = runner.database.try_exclusive_lock(worker.name) => taken,
    };
    let mut lock = match taken {
        Ok(Some(lock)) => lock,
        Ok(None) => return Outcome::Skipped,
        Err(error) => return failed(worker, &error.into()),
    };
    let outcome = tokio::select! {
        outcome = work(worker, runner, stop) => outcome,
        // Another process may have begun. The remaining work belongs to its run.
        error = lock_loss(&mut lock) => failed(worker, &error.into()),
    };
    lock.release().await;
    outcome
}

async fn lock_loss(lock: &mut ExclusiveLock) -> DbError {
    loop {
        tokio::time::sleep(LOCK_CHECK_INTERVAL).await;
        if let Err(error) = lock.verify(LOCK_CHECK_INTERVAL).await {
            return error;
        }
    }
}

async fn work(worker: &Worker, runner: &Runner, stop: &CancellationToken) -> Outcome {
    let run = async {
        if let Some(faults) = &runner.faults {
            faults.before_run(worker.name).await?;
        }
        (worker.run)().await
    };
    match STOP.scope(stop.clone(), run).await {
        Ok(next) => Outcome::Ok(next),
        Err(error) => failed(worker, &error),
    }
}

fn failed(worker: &Worker, error: &anyhow::Error) -> Outcome {
    let error = format!("{error:#}");
    tracing::error!(worker = worker.name, error, "a worker run failed");
    Outcome::Failed
}
