//! The lifecycle handle: state, shutdown tokens and supervised tasks.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use futures_util::FutureExt as _;
use prometheus::IntGaugeVec;
use telemetry::logs::panic_message;
use telemetry::metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::registry::TaskRegistry;
use crate::state::{STATES, State};
use crate::stream_kind::StreamKind;

metrics! {
    /// State of the process, and streams that outlive a request.
    pub struct LifecycleMetrics {
        /// State of the process: 1 for the current state, 0 for the others. The states are
        /// `starting`, `ready`, `draining` and `stopping`.
        pub state: IntGaugeVec = "lifecycle_state"["state"];
        /// Open streams by kind. The kinds are `sse` and `websocket`.
        pub streams: IntGaugeVec = "http_streams_open"["kind"];
    }
}

/// Handle of the process lifecycle. Clones share the state.
#[derive(Clone)]
pub struct Lifecycle {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) draining: CancellationToken,
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
    /// Tasks and streams that the shutdown waits for.
    pub(crate) tracker: TaskTracker,
    pub(crate) registry: TaskRegistry,
    pub(crate) cuts: AtomicU64,
    pub(crate) failed: AtomicBool,
    pub(crate) state: AtomicU8,
    pub(crate) metrics: LifecycleMetrics,
}

impl Lifecycle {
    /// The lifecycle of a starting process.
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
                registry: TaskRegistry::default(),
                cuts: AtomicU64::new(0),
                failed: AtomicBool::new(false),
                state: AtomicU8::new(0),
                metrics,
            }),
        };
        lifecycle.enter(State::Starting);
        lifecycle
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> State {
        STATES[usize::from(self.inner.state.load(Ordering::Acquire)) % STATES.len()]
    }

    /// Enters a later state. Earlier states are ignored.
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
            // The reason of the shutdown is already logged.
            State::Draining | State::Stopping => {
                tracing::debug!(state = state.as_str(), "lifecycle");
            }
        }
    }

    /// Cancelled when draining starts.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Cancelled when no new work is accepted.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.inner.soft.clone()
    }

    /// Cancelled when the remaining work is cut.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.inner.hard.clone()
    }

    /// Starts an orderly shutdown.
    pub fn shut_down(&self, reason: &str) {
        if !self.inner.draining.is_cancelled() {
            tracing::info!(reason, "shutting down");
            self.inner.draining.cancel();
        }
    }

    /// Starts an orderly shutdown with a failing exit code.
    pub fn fail(&self, reason: &str) {
        self.inner.failed.store(true, Ordering::Release);
        self.shut_down(reason);
    }

    /// Whether the shutdown was started by a failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner.failed.load(Ordering::Acquire)
    }

    /// Reports unfinished work. It counts as cut and is logged only after the hard token is
    /// cancelled. Before that, the client has given up.
    pub fn report_unfinished(&self, kind: &str, name: &str) {
        if self.inner.hard.is_cancelled() {
            self.cut(kind, name);
        }
    }

    pub(crate) fn cut(&self, kind: &str, name: &str) {
        self.inner.cuts.fetch_add(1, Ordering::AcqRel);
        tracing::warn!(kind, name, "cut: it outlived the grace period");
    }

    /// Number of requests, streams and workers that were cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.inner.cuts.load(Ordering::Acquire)
    }

    /// Names of the running tasks and streams.
    #[must_use]
    pub fn still_running(&self) -> Vec<Cow<'static, str>> {
        let open = self.inner.registry.open().into_iter();
        open.map(|(_, name)| name).collect()
    }

    /// Spawns a task that runs until the soft token is cancelled. The shutdown waits for it. An
    /// early return or a panic starts a failing shutdown.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        let entry = self.inner.registry.register("task", name.clone());
        let supervised = self.supervise(name, self.soft(), task);
        // Long-lived tasks are spawned only here and in `spawn_until`.
        self.inner.tracker.spawn(async move {
            supervised.await;
            drop(entry);
        });
    }

    /// Spawns a task that outlives the drain and ends after `until` is cancelled. Only the caller
    /// waits for it. An early return or a panic starts a failing shutdown.
    pub fn spawn_until(
        &self,
        name: impl Into<Cow<'static, str>>,
        until: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        #[expect(clippy::disallowed_methods, reason = "this is the tracked spawn")]
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
                    tracing::error!(task = &*name, "a task ended early");
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
    async fn a_task_that_panics_or_ends_early_starts_a_failing_shutdown() {
        for panics in [true, false] {
            let lifecycle = lifecycle();
            lifecycle.spawn("task", async move { assert!(!panics, "a defect") });
            lifecycle.draining().cancelled().await;
            assert!(lifecycle.has_failed());
        }
    }

    #[tokio::test]
    async fn an_accompanying_task_may_end_only_after_its_token() {
        let lifecycle = lifecycle();
        let until = CancellationToken::new();
        let ended = until.clone();
        let task = async move { ended.cancelled().await };
        let companion = lifecycle.spawn_until("companion", until.clone(), task);
        until.cancel();
        companion.await.unwrap();
        assert!(!lifecycle.has_failed());
        lifecycle.spawn_until("early", CancellationToken::new(), async {});
        lifecycle.draining().cancelled().await;
        assert!(lifecycle.has_failed());
    }

    #[tokio::test]
    async fn earlier_states_are_ignored() {
        let lifecycle = lifecycle();
        lifecycle.enter(State::Stopping);
        lifecycle.enter(State::Ready);
        assert_eq!(lifecycle.state(), State::Stopping);
        let gauge = |state| lifecycle.inner.metrics.state.with_label_values(&[state]);
        assert_eq!((gauge("stopping").get(), gauge("ready").get()), (1, 0));
    }
}
