//! Background work: a named job at an interval or from a queue, measured, bounded in
//! time, watched, and stopped between two steps rather than in the middle of one.

mod config;
mod pace;
mod run;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use prometheus::{HistogramVec, IntCounterVec};
use tokio::sync::Notify;

use crate::platform::faults::Faults;

pub use config::Config;
pub use run::stopping;

use db::Database;
use lifecycle::Lifecycle;
use lifecycle::health::{Health, Schedule};
use pace::Pace;
use request::SpanLink;
use run::Outcome;
use telemetry::metrics;
use telemetry::metrics::LATENCY;

metrics! {
    /// Background work.
    pub struct WorkerMetrics {
        /// Runs by outcome: `ok`, `failed`, `timeout`, `skipped` (another replica had the turn), `cut` (by a shutdown).
        pub runs: IntCounterVec = "worker_runs_total"["worker", "outcome"];
        /// Seconds that a run took.
        pub duration: HistogramVec = "worker_run_duration_seconds"["worker"], buckets LATENCY;
    }
}

/// What a run has to say about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing is left to do: the next run comes in its time.
    InTime,
    /// There is more: the next run comes at once.
    AtOnce,
}

/// When a worker runs.
pub enum Trigger {
    /// With this much time from the end of a run to the start of the next, a tenth
    /// more or less; the first after a tenth of it at most, so that replicas spread.
    Interval(Duration),
    /// Whenever somebody wakes it, and at this interval besides, for what others left.
    Queue {
        /// Rings when there is work.
        wake: Arc<Notify>,
        /// Time between two looks without a ring.
        poll: Duration,
    },
}

/// A job and when it runs.
pub struct Worker {
    /// Label value and task name.
    pub name: &'static str,
    /// When it runs.
    pub trigger: Trigger,
    /// Time for one run.
    pub deadline: Duration,
    /// Whether at most one replica may do it at a time.
    pub single: bool,
    /// One run, the root of a trace. It links itself to what made it necessary, when
    /// that has a trace ([`SpanLink::link`]). It is dropped when it exceeds its deadline or
    /// the grace period of a drain; before that a drain waits for its next safe point: see [`stopping`].
    pub run: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<Next>> + Send + Sync>,
}

/// Starts workers.
#[derive(Clone)]
pub struct Runner {
    lifecycle: Lifecycle,
    health: Health,
    database: Database,
    metrics: WorkerMetrics,
    /// There only where faults may be injected.
    faults: Option<Faults>,
}

/// When a worker last did what it should.
#[derive(Clone)]
struct Beat(Arc<Mutex<(Instant, bool)>>);

impl Beat {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), true))))
    }

    fn note(&self, good: bool) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if good {
            beat.0 = Instant::now();
        }
        beat.1 = good;
    }

    /// Whether a run has succeeded for so long.
    fn holds(&self, patience: Duration) -> Result<(), &'static str> {
        let (last, good) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (good, last.elapsed() <= patience) {
            (true, true) => Ok(()),
            (true, false) => Err("no run has ended in time"),
            (false, _) => Err("the last run failed"),
        }
    }
}

impl Runner {
    /// A runner for the workers of this process.
    #[must_use]
    pub fn new(
        lifecycle: &Lifecycle,
        health: &Health,
        database: &Database,
        metrics: WorkerMetrics,
        faults: Option<&Faults>,
    ) -> Self {
        Self {
            faults: faults.cloned(),
            lifecycle: lifecycle.clone(),
            health: health.clone(),
            database: database.clone(),
            metrics,
        }
    }

    /// Starts a worker; it stops after the run that the soft token finds it in. Its
    /// heartbeat is a readiness check that is not critical.
    pub fn start(&self, worker: Worker) {
        for outcome in Outcome::ALL {
            let labels = [worker.name, outcome.as_str()];
            self.metrics.runs.with_label_values(&labels);
        }
        self.metrics.duration.with_label_values(&[worker.name]);
        let beat = Beat::new();
        self.watch(&worker, &beat);
        let runner = self.clone();
        self.lifecycle
            .spawn(worker.name, async move { runner.work(worker, &beat).await });
    }

    fn watch(&self, worker: &Worker, beat: &Beat) {
        let pause = match worker.trigger {
            Trigger::Interval(interval) => interval,
            Trigger::Queue { poll, .. } => poll,
        };
        // A run may be late by its whole deadline, and one may go wrong.
        let patience = (pause.mul_f64(1.1) + worker.deadline) * 2;
        let beat = beat.clone();
        self.health.watch(
            format!("worker_{}", worker.name),
            false,
            Schedule::default(),
            Arc::new(move || {
                let held = beat.holds(patience);
                Box::pin(async move { held })
            }),
        );
    }

    async fn work(&self, worker: Worker, beat: &Beat) {
        let soft = self.lifecycle.soft();
        let mut pace = Pace::new(&worker.trigger);
        let mut failed: Option<SpanLink> = None;
        loop {
            tokio::select! {
                () = soft.cancelled() => return,
                () = pace.next_run(&worker.trigger) => {}
            }
            let began = Instant::now();
            let outcome = run::once(&worker, self, &mut failed).await;
            let labels = [worker.name, outcome.as_str()];
            self.metrics.runs.with_label_values(&labels).inc();
            let duration = self.metrics.duration.with_label_values(&[worker.name]);
            duration.observe(began.elapsed().as_secs_f64());
            if outcome == Outcome::Cut {
                self.lifecycle.unfinished("worker", worker.name);
                return;
            }
            beat.note(outcome.is_good());
            pace.after(outcome, &worker.trigger);
        }
    }
}

#[cfg(test)]
mod tests;
