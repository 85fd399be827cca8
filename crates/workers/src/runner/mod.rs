//! Runs the workers of a process.

mod run;
mod run_timer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use prometheus::{HistogramVec, IntCounterVec};
use tokio::sync::Notify;

use request::faults::Faults;

pub use run::stopping;

use db::Database;
use lifecycle::Lifecycle;
use lifecycle::health::{Health, Schedule};
use request::SpanLink;
use run::Outcome;
use run_timer::RunTimer;
use telemetry::metrics;
use telemetry::metrics::LATENCY;

metrics! {
    /// Background work.
    pub struct WorkerMetrics {
        /// Runs by outcome. `ok`, `failed` and `timeout` have ended. `skipped` had not begun,
        /// because another replica had the lock or a drain started. `cut` was ended by a shutdown.
        pub runs: IntCounterVec = "worker_runs_total"["worker", "outcome"];
        /// Duration of a run in seconds.
        pub duration: HistogramVec = "worker_run_duration_seconds"["worker"], buckets LATENCY;
    }
}

/// The time of the next run, as a run returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextRun {
    /// No work remains. The next run is at its regular time.
    AsScheduled,
    /// Work remains. The next run starts at once.
    AtOnce,
}

/// The schedule of a worker.
pub enum Trigger {
    /// Time from the end of a run to the start of the next, varied by a tenth. The first run starts
    /// after a tenth of it at most, so that replicas spread.
    Interval(Duration),
    /// On every notification, and also at an interval for work that other processes left.
    Queue {
        /// Notified when there is work.
        wake: Arc<Notify>,
        /// Time between two runs without a notification.
        poll: Duration,
    },
}

/// A job and its schedule.
pub struct Worker {
    /// Label value and task name.
    pub name: &'static str,
    /// The schedule.
    pub trigger: Trigger,
    /// Time limit of one run.
    pub deadline: Duration,
    /// True if at most one replica may run it at a time.
    pub exclusive: bool,
    /// One run, the root of a trace. It links itself to its cause if that has a trace
    /// ([`SpanLink::link`]). It is dropped when it exceeds its deadline or the grace period of a
    /// drain. Before that, a drain waits for its next safe point. See [`stopping`].
    pub run: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<NextRun>> + Send + Sync>,
}

/// Starts workers.
#[derive(Clone)]
pub struct Runner {
    lifecycle: Lifecycle,
    health: Health,
    database: Database,
    metrics: WorkerMetrics,
    /// Only set where fault injection is enabled.
    faults: Option<Faults>,
}

/// Time of the last successful run, and whether the last run succeeded.
#[derive(Clone)]
struct Heartbeat(Arc<Mutex<(Instant, bool)>>);

impl Heartbeat {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), true))))
    }

    fn record(&self, good: bool) {
        let mut heartbeat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if good {
            heartbeat.0 = Instant::now();
        }
        heartbeat.1 = good;
    }

    /// Checks that the last run succeeded, at most `max_age` ago.
    fn check(&self, max_age: Duration) -> Result<(), &'static str> {
        let (last, good) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (good, last.elapsed() <= max_age) {
            (true, true) => Ok(()),
            (true, false) => Err("no run has succeeded within the expected time"),
            (false, _) => Err("the last run failed"),
        }
    }
}

impl Runner {
    /// Creates the runner of a process.
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

    /// Starts a worker. It stops after the run during which the soft token is cancelled. Its
    /// heartbeat is a readiness check that is not critical.
    pub fn start(&self, worker: Worker) {
        for outcome in Outcome::ALL {
            let labels = [worker.name, outcome.as_str()];
            self.metrics.runs.with_label_values(&labels);
        }
        self.metrics.duration.with_label_values(&[worker.name]);
        if let Some(faults) = &self.faults {
            faults.add_worker(worker.name);
        }
        let heartbeat = Heartbeat::new();
        self.watch(&worker, &heartbeat);
        let runner = self.clone();
        self.lifecycle.spawn(
            worker.name,
            async move { runner.work(worker, &heartbeat).await },
        );
    }

    fn watch(&self, worker: &Worker, heartbeat: &Heartbeat) {
        let pause = match worker.trigger {
            Trigger::Interval(interval) => interval,
            Trigger::Queue { poll, .. } => poll,
        };
        // A run may take its whole deadline, and one run may fail.
        let max_age = (pause.mul_f64(1.1) + worker.deadline) * 2;
        let heartbeat = heartbeat.clone();
        self.health.add_check(
            format!("worker_{}", worker.name),
            false,
            Schedule::default(),
            Arc::new(move || {
                let result = heartbeat.check(max_age);
                Box::pin(async move { result })
            }),
        );
    }

    async fn work(&self, worker: Worker, heartbeat: &Heartbeat) {
        let soft = self.lifecycle.soft();
        let mut timer = RunTimer::new(&worker.trigger);
        let mut failed: Option<SpanLink> = None;
        loop {
            tokio::select! {
                () = soft.cancelled() => return,
                () = timer.next_run(&worker.trigger) => {}
            }
            let began = Instant::now();
            let outcome = run::run_once(&worker, self, &mut failed).await;
            let labels = [worker.name, outcome.as_str()];
            self.metrics.runs.with_label_values(&labels).inc();
            let duration = self.metrics.duration.with_label_values(&[worker.name]);
            duration.observe(began.elapsed().as_secs_f64());
            if outcome == Outcome::Cut {
                self.lifecycle.report_unfinished("worker", worker.name);
                return;
            }
            heartbeat.record(outcome.is_good());
            timer.after_run(outcome, &worker.trigger);
        }
    }
}

#[cfg(test)]
mod tests;
