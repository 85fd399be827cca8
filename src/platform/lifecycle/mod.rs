//! The life of the process: tokens, tracked tasks, phases, signals.
//!
//! Three tokens follow each other: `draining` (readiness has fallen, everything
//! still answers), `soft` (stop taking new work, finish what is in flight) and
//! `hard` (what is left is cut). Every long-lived task is tracked and named; one
//! that ends by itself, or panics, begins an orderly shutdown that fails.

mod config;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use prometheus::IntGaugeVec;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics;
use crate::platform::protect::panic_message;
use crate::platform::telemetry::logs;

pub use config::Config;

/// How long a process that leaves at once waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Exit code of a shutdown that had to cut something (`EX_SOFTWARE` of sysexits).
pub const EXIT_FORCED: i32 = 70;

metrics! {
    /// Where the process is in its life.
    pub struct LifecycleMetrics {
        /// 1 for the present state, 0 for the others: `starting`, `ready`, `draining`, `stopping`.
        pub state: IntGaugeVec = "lifecycle_state"["state"];
    }
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not everything stands yet.
    Starting,
    /// Serving.
    Ready,
    /// Serving, but asking everybody to go elsewhere.
    Draining,
    /// Finishing what is in flight.
    Stopping,
}

const STATES: [State; 4] = [
    State::Starting,
    State::Ready,
    State::Draining,
    State::Stopping,
];

impl State {
    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// Shared by everything that lives as long as the process.
#[derive(Clone)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

struct Inner {
    draining: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Vec<&'static str>>,
    failed: AtomicBool,
    state: AtomicU8,
    metrics: LifecycleMetrics,
}

impl Lifecycle {
    /// A process that is starting.
    #[must_use]
    pub fn new(metrics: LifecycleMetrics) -> Self {
        let lifecycle = Self {
            inner: Arc::new(Inner {
                draining: CancellationToken::new(),
                soft: CancellationToken::new(),
                hard: CancellationToken::new(),
                tracker: TaskTracker::new(),
                running: Mutex::default(),
                failed: AtomicBool::new(false),
                state: AtomicU8::new(0),
                metrics,
            }),
        };
        lifecycle.enter(State::Starting);
        lifecycle
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        STATES[usize::from(self.inner.state.load(Ordering::Acquire)) % STATES.len()]
    }

    /// Moves on to the next state. There is no way back.
    pub fn enter(&self, state: State) {
        for (index, candidate) in (0u8..).zip(STATES) {
            let present = candidate == state;
            if present {
                self.inner.state.fetch_max(index, Ordering::AcqRel);
            }
            let gauge = self
                .inner
                .metrics
                .state
                .with_label_values(&[candidate.as_str()]);
            gauge.set(i64::from(present));
        }
        tracing::info!(state = state.as_str(), "lifecycle");
    }

    /// Cancelled when the drain begins.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Cancelled when no new work is taken any more.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.inner.soft.clone()
    }

    /// Cancelled when what is left is cut.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.inner.hard.clone()
    }

    /// Begins an orderly shutdown.
    pub fn shut_down(&self, reason: &str) {
        if !self.inner.draining.is_cancelled() {
            tracing::info!(reason, "shutting down");
            self.inner.draining.cancel();
        }
    }

    /// Begins an orderly shutdown that ends with a failing exit code.
    pub fn fail(&self, reason: &str) {
        self.inner.failed.store(true, Ordering::Release);
        self.shut_down(reason);
    }

    /// Whether the shutdown began with a failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner.failed.load(Ordering::Acquire)
    }

    /// Runs a task that should live until the soft token; its early end or its
    /// panic begins a failing shutdown.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let lifecycle = self.clone();
        self.running().push(name);
        let supervised = async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(()) if lifecycle.inner.soft.is_cancelled() => {}
                Ok(()) => {
                    tracing::error!(task = name, "a task ended before its time");
                    lifecycle.fail(name);
                }
                Err(payload) => {
                    let message = panic_message(payload.as_ref());
                    tracing::error!(task = name, panic = message, "a task panicked");
                    lifecycle.fail(name);
                }
            }
            let mut running = lifecycle.running();
            if let Some(position) = running.iter().position(|running| *running == name) {
                running.swap_remove(position);
            }
        };
        // The one place that spawns; everything here is tracked.
        self.inner.tracker.spawn(supervised);
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    /// Names of the tasks that have not ended.
    #[must_use]
    pub fn still_running(&self) -> Vec<&'static str> {
        self.running().clone()
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<&'static str>> {
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the process's life and sees it through: drain, soft
    /// stop within the grace period, hard stop. Returns whether work was cut.
    pub async fn run_down(&self, config: &Config) -> bool {
        self.inner.draining.cancelled().await;
        self.enter(State::Draining);
        tokio::time::sleep(config.drain_delay).await;
        self.enter(State::Stopping);
        self.inner.soft.cancel();
        let graceful = tokio::time::timeout(config.grace_period, self.wait())
            .await
            .is_ok();
        if !graceful {
            tracing::warn!(
                tasks = ?self.still_running(),
                grace_period = ?config.grace_period,
                "the grace period is over; cutting what is left"
            );
        }
        self.inner.hard.cancel();
        self.wait().await;
        !graceful
    }
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_signals(lifecycle: &Lifecycle) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lifecycle = lifecycle.clone();
    // Not tracked: it must outlive the tasks that it ends.
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(async move {
        let mut received = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = received().await;
        lifecycle.shut_down(first);
        let second = received().await;
        tracing::error!(signal = second, "second signal: leaving at once");
        logs::flush(LAST_WORDS);
        #[allow(clippy::disallowed_methods)]
        std::process::exit(EXIT_FORCED);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(LifecycleMetrics::register(&prometheus::Registry::new()).unwrap())
    }

    const CONFIG: Config = Config {
        drain_delay: Duration::from_millis(30),
        grace_period: Duration::from_millis(40),
    };

    #[tokio::test]
    async fn the_drain_delay_comes_first_and_workers_end_at_the_soft_token() {
        let lifecycle = lifecycle();
        let soft = lifecycle.soft();
        lifecycle.spawn("worker", async move { soft.cancelled().await });
        lifecycle.shut_down("test");
        let began = std::time::Instant::now();
        assert!(!lifecycle.run_down(&CONFIG).await, "nothing was cut");
        assert!(began.elapsed() >= CONFIG.drain_delay);
        assert_eq!(lifecycle.state(), State::Stopping);
        assert!(!lifecycle.has_failed());
    }

    #[tokio::test]
    async fn what_outlives_the_grace_period_is_cut() {
        let lifecycle = lifecycle();
        let hard = lifecycle.hard();
        lifecycle.spawn("stubborn", async move { hard.cancelled().await });
        lifecycle.shut_down("test");
        let began = std::time::Instant::now();
        assert!(lifecycle.run_down(&CONFIG).await, "it was cut");
        assert!(began.elapsed() >= CONFIG.drain_delay + CONFIG.grace_period);
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_begins_a_failing_shutdown() {
        for panics in [true, false] {
            let lifecycle = lifecycle();
            lifecycle.spawn("task", async move { assert!(!panics, "a defect") });
            lifecycle.run_down(&CONFIG).await;
            assert!(lifecycle.has_failed());
        }
    }
}
