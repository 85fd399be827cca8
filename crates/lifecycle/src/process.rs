//! The life of the process: tokens, tracked tasks, streams, phases, signals.
//!
//! Three tokens follow each other: `draining` (readiness has fallen, everything
//! still answers), `soft` (stop taking new work, finish what is in flight) and
//! `hard` (what is left is cut). Every long-lived task is tracked and named; one
//! that ends by itself, or panics, begins an orderly shutdown that fails.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use futures_util::FutureExt as _;
use prometheus::IntGaugeVec;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use telemetry::logs::panic_message;
use telemetry::metrics;

use crate::state::{STATES, State};
use crate::stream_kind::StreamKind;
use crate::work::Work;

metrics! {
    /// Where the process is in its life, and what outlives a request.
    pub struct LifecycleMetrics {
        /// 1 for the present state, 0 for the others: `starting`, `ready`, `draining`, `stopping`.
        pub state: IntGaugeVec = "lifecycle_state"["state"];
        /// Open streams by kind: `sse`, `websocket`.
        pub streams: IntGaugeVec = "http_streams_open"["kind"];
    }
}

/// Shared by everything that lives as long as the process.
#[derive(Clone)]
pub struct Lifecycle {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) draining: CancellationToken,
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
    /// What the drain waits for: tasks and streams.
    pub(crate) tracker: TaskTracker,
    pub(crate) work: Work,
    pub(crate) cuts: AtomicU64,
    pub(crate) failed: AtomicBool,
    pub(crate) state: AtomicU8,
    pub(crate) metrics: LifecycleMetrics,
}

impl Lifecycle {
    /// A process that is starting.
    #[must_use]
    pub fn new(metrics: LifecycleMetrics) -> Self {
        for kind in StreamKind::ALL {
            metrics.streams.with_label_values(&[kind.as_str()]);
        }
        let lifecycle = Self {
            inner: Arc::new(Inner {
                draining: CancellationToken::new(),
                soft: CancellationToken::new(),
                hard: CancellationToken::new(),
                tracker: TaskTracker::new(),
                work: Work::default(),
                cuts: AtomicU64::new(0),
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

    /// Moves on to the next state. There is no way back: what comes late has no effect.
    pub fn enter(&self, state: State) {
        let index = (0u8..)
            .zip(STATES)
            .find_map(|(index, candidate)| (candidate == state).then_some(index));
        let before = self
            .inner
            .state
            .fetch_max(index.unwrap_or_default(), Ordering::AcqRel);
        if index.is_some_and(|index| index < before) {
            return;
        }
        for candidate in STATES {
            let label = candidate.as_str();
            let gauge = self.inner.metrics.state.with_label_values(&[label]);
            gauge.set(i64::from(candidate == state));
        }
        match state {
            State::Starting | State::Ready => tracing::info!(state = state.as_str(), "lifecycle"),
            // The reason of the end has been told.
            State::Draining | State::Stopping => {
                tracing::debug!(state = state.as_str(), "lifecycle");
            }
        }
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

    /// Says that a piece of work ended unfinished. Counts, and is logged, only once
    /// the hard token has fallen: before it, that was the client's decision.
    pub fn unfinished(&self, kind: &str, name: &str) {
        if self.inner.hard.is_cancelled() {
            self.cut(kind, name);
        }
    }

    pub(crate) fn cut(&self, kind: &str, name: &str) {
        self.inner.cuts.fetch_add(1, Ordering::AcqRel);
        tracing::warn!(kind, name, "cut: it outlived the grace period");
    }

    /// How many requests, streams and workers had to be cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.inner.cuts.load(Ordering::Acquire)
    }

    /// Names of the tasks and streams that have not ended.
    #[must_use]
    pub fn still_running(&self) -> Vec<Cow<'static, str>> {
        let open = self.inner.work.open().into_iter();
        open.map(|(_, name)| name).collect()
    }

    /// Runs a task that lives until the soft token; its early end or its panic
    /// begins a failing shutdown. The drain waits for it.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        let entry = self.inner.work.enter("task", name.clone());
        let supervised = self.supervise(name, self.soft(), task);
        // This and `accompany` are the only places that spawn what lives on.
        self.inner.tracker.spawn(async move {
            supervised.await;
            drop(entry);
        });
    }

    /// Runs a task that outlives the drain and ends after `until`; its early end or
    /// its panic begins a failing shutdown. Nobody waits for it but the caller.
    pub fn accompany(
        &self,
        name: impl Into<Cow<'static, str>>,
        until: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(self.supervise(name.into(), until, task))
    }

    fn supervise(
        &self,
        name: Cow<'static, str>,
        until: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let lifecycle = self.clone();
        async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(()) if until.is_cancelled() => {}
                Ok(()) => {
                    tracing::error!(task = &*name, "a task ended before its time");
                    lifecycle.fail(&name);
                }
                Err(payload) => {
                    let message = panic_message(payload.as_ref());
                    tracing::error!(task = &*name, panic = message, "a task panicked");
                    lifecycle.fail(&name);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn lifecycle() -> Lifecycle {
        Lifecycle::new(LifecycleMetrics::register(&prometheus::Registry::new()).unwrap())
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_begins_a_failing_shutdown() {
        for panics in [true, false] {
            let lifecycle = lifecycle();
            lifecycle.spawn("task", async move { assert!(!panics, "a defect") });
            lifecycle.draining().cancelled().await;
            assert!(lifecycle.has_failed());
        }
    }

    #[tokio::test]
    async fn a_companion_may_end_only_after_its_time() {
        let lifecycle = lifecycle();
        let until = CancellationToken::new();
        let ended = until.clone();
        let task = async move { ended.cancelled().await };
        let companion = lifecycle.accompany("companion", until.clone(), task);
        until.cancel();
        companion.await.unwrap();
        assert!(!lifecycle.has_failed());
        lifecycle.accompany("early", CancellationToken::new(), async {});
        lifecycle.draining().cancelled().await;
        assert!(lifecycle.has_failed());
    }

    #[tokio::test]
    async fn there_is_no_way_back() {
        let lifecycle = lifecycle();
        lifecycle.enter(State::Stopping);
        lifecycle.enter(State::Ready);
        assert_eq!(lifecycle.state(), State::Stopping);
        let gauge = |state| lifecycle.inner.metrics.state.with_label_values(&[state]);
        assert_eq!((gauge("stopping").get(), gauge("ready").get()), (1, 0));
    }
}
