//! One run.

use std::time::Duration;

use db::{DbError, Turn};
use request::SpanLink;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Next, Runner, Worker};

/// How often a run that must be the only one makes sure that it still is.
const TURN_CHECK: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok(Next),
    Failed,
    Timeout,
    Skipped,
    Cut,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] = [
        Self::Ok(Next::InTime),
        Self::Failed,
        Self::Timeout,
        Self::Skipped,
        Self::Cut,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
            Self::Cut => "cut",
        }
    }

    /// Whether the work is done, here or elsewhere.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Ok(_) | Self::Skipped)
    }
}

tokio::task_local! {
    /// Cancelled when the present run should stop.
    static STOP: CancellationToken;
}

/// Whether the run that asks should stop at its next safe point: between two
/// batches, say. False outside of a run.
#[must_use]
pub fn stopping() -> bool {
    STOP.try_with(CancellationToken::is_cancelled)
        .unwrap_or(false)
}

/// Runs a worker once; what went wrong is logged inside of its span, and remembered
/// in `failed`, from which the next run takes its link.
pub(super) async fn once(
    worker: &Worker,
    runner: &Runner,
    failed: &mut Option<SpanLink>,
) -> Outcome {
    // A trace of its own; the sampler decides whether it is exported.
    let span = tracing::info_span!(
        parent: None,
        "run",
        otel.name = worker.name,
        otel.status_code = tracing::field::Empty,
    );
    let hard = runner.lifecycle.hard();
    let stop = runner.lifecycle.soft().child_token();
    let run = async {
        // This run is there to make good what that one could not do.
        if let Some(failed) = failed.take() {
            failed.link("retry");
        }
        let outcome = tokio::select! {
            () = hard.cancelled() => Outcome::Cut,
            outcome = tokio::time::timeout(worker.deadline, turn(worker, runner, &stop)) => {
                outcome.unwrap_or_else(|_| {
                    tracing::error!(worker = worker.name, deadline = ?worker.deadline, "run too long");
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
            "a run has ended"
        );
    });
    outcome
}

/// Takes the turn first, where there may be only one.
async fn turn(worker: &Worker, runner: &Runner, stop: &CancellationToken) -> Outcome {
    if !worker.single {
        return work(worker, runner, stop).await;
    }
    // Nothing has begun yet: a drain need not wait for a server that does not answer.
    let taken = tokio::select! {
        () = stop.cancelled() => return Outcome::Skipped,
        taken = runner.database.turn(worker.name) => taken,
    };
    let mut turn = match taken {
        Ok(Some(turn)) => turn,
        Ok(None) => return Outcome::Skipped,
        Err(error) => return failed(worker, &error.into()),
    };
    let outcome = tokio::select! {
        outcome = work(worker, runner, stop) => outcome,
        // Somebody else may have begun: what is not done is theirs.
        lost = lost(&mut turn) => failed(worker, &lost.into()),
    };
    turn.end().await;
    outcome
}

async fn lost(turn: &mut Turn) -> DbError {
    loop {
        tokio::time::sleep(TURN_CHECK).await;
        if let Err(error) = turn.confirm(TURN_CHECK).await {
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
    tracing::error!(worker = worker.name, error, "run failed");
    Outcome::Failed
}
