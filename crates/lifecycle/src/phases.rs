//! The steps of the shutdown. Each step logs the work that it waited for and the time.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::process::Lifecycle;
use crate::state::State;

/// Time for cut tasks to release their resources.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// Steps that take fewer milliseconds are logged at debug level, so that an idle process logs one
/// line.
const QUIET_STEP_MS: u64 = 100;

/// Runs a step of the shutdown for at most `bound` and logs its duration. Returns whether it
/// finished in time.
pub async fn bounded_step(
    name: &'static str,
    bound: Duration,
    work: impl Future<Output = ()>,
) -> bool {
    let began = Instant::now();
    let ended = tokio::time::timeout(bound, work).await.is_ok();
    log(name, began, ended, "");
    ended
}

fn log(step: &'static str, began: Instant, in_time: bool, waited_for: &str) {
    let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if in_time && waited_ms < QUIET_STEP_MS {
        tracing::debug!(step, waited_ms, waited_for, "shutdown step");
    } else if in_time {
        tracing::info!(step, waited_ms, waited_for, "shutdown step");
    } else {
        tracing::warn!(step, waited_ms, waited_for, "shutdown step: out of time");
    }
}

impl Lifecycle {
    /// Waits for the start of the shutdown and runs its steps: drain, soft stop within the grace
    /// period, hard stop. [`Lifecycle::cuts`] then returns the number of unfinished pieces of work.
    pub async fn run_shutdown(&self, config: &Config) {
        self.inner.draining.cancelled().await;
        // A process that was never ready receives no traffic, so the drain delay is skipped.
        let drain_delay = match self.state() {
            State::Starting => Duration::ZERO,
            _ => config.drain_delay,
        };
        self.enter(State::Draining);
        let began = Instant::now();
        tokio::time::sleep(drain_delay).await;
        log("drain delay", began, true, "load balancers");

        self.enter(State::Stopping);
        let began = Instant::now();
        self.inner.registry.record();
        self.inner.soft.cancel();
        self.inner.tracker.close();
        let finished = tokio::time::timeout(config.grace_period, self.inner.tracker.wait())
            .await
            .is_ok();
        log(
            "finish",
            began,
            finished,
            &self.inner.registry.waited_for(began),
        );
        if finished {
            self.inner.hard.cancel();
            return;
        }

        let began = Instant::now();
        tracing::warn!(
            left = self.still_running().join(", "),
            "the grace period is over, cutting the remaining work"
        );
        self.inner.registry.record();
        self.inner.hard.cancel();
        let released = tokio::time::timeout(RELEASE_TIMEOUT, self.inner.tracker.wait())
            .await
            .is_ok();
        log(
            "cut",
            began,
            released,
            &self.inner.registry.waited_for(began),
        );
        // Tasks that ignore the hard token end with the process.
        for (kind, name) in self.inner.registry.open() {
            self.cut(kind, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::lifecycle;
    use crate::stream_kind::StreamKind;

    const CONFIG: Config = Config {
        drain_delay: Duration::from_millis(30),
        grace_period: Duration::from_millis(40),
    };

    #[tokio::test]
    async fn workers_end_at_the_soft_token_after_the_drain_delay() {
        let lifecycle = lifecycle();
        let soft = lifecycle.soft();
        lifecycle.spawn("worker", async move { soft.cancelled().await });
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let began = Instant::now();
        lifecycle.run_shutdown(&CONFIG).await;
        assert!(began.elapsed() >= CONFIG.drain_delay);
        assert_eq!(lifecycle.state(), State::Stopping);
        assert_eq!((lifecycle.cuts(), lifecycle.has_failed()), (0, false));
    }

    #[tokio::test]
    async fn a_process_that_was_never_ready_skips_the_drain_delay() {
        let lifecycle = lifecycle();
        lifecycle.shut_down("test");
        let began = Instant::now();
        let config = Config {
            drain_delay: Duration::from_mins(1),
            ..CONFIG
        };
        lifecycle.run_shutdown(&config).await;
        assert!(began.elapsed() < config.drain_delay);
    }

    #[tokio::test]
    async fn a_task_that_ends_at_the_hard_token_is_not_cut() {
        let lifecycle = lifecycle();
        let hard = lifecycle.hard();
        lifecycle.spawn("listener", async move { hard.cancelled().await });
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let began = Instant::now();
        lifecycle.run_shutdown(&CONFIG).await;
        assert!(began.elapsed() >= CONFIG.drain_delay + CONFIG.grace_period);
        assert_eq!(lifecycle.cuts(), 0);
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_hard_token_is_cut() {
        let lifecycle = lifecycle();
        lifecycle.spawn("stubborn", std::future::pending());
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        lifecycle.run_shutdown(&CONFIG).await;
        assert_eq!(lifecycle.cuts(), 1);
    }

    #[tokio::test]
    async fn a_stream_that_ends_gracefully_is_not_cut() {
        let lifecycle = lifecycle();
        let stream = lifecycle.stream(StreamKind::Sse, "GET /events");
        let gauge = lifecycle.inner.metrics.streams.with_label_values(&["sse"]);
        assert_eq!(gauge.get(), 1);
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let graceful_end = async {
            stream.soft().cancelled().await;
            tokio::task::yield_now().await;
            stream.end();
        };
        tokio::join!(lifecycle.run_shutdown(&CONFIG), graceful_end);
        assert_eq!((lifecycle.cuts(), gauge.get()), (0, 0));
    }

    #[tokio::test]
    async fn an_open_stream_is_cut_and_an_abandoned_one_is_not() {
        let lifecycle = lifecycle();
        let open = lifecycle.stream(StreamKind::Sse, "GET /events");
        let abandoned = lifecycle.stream(StreamKind::WebSocket, "GET /socket");
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let client = async {
            abandoned.soft().cancelled().await;
            drop(abandoned);
            open.hard().cancelled().await;
            drop(open);
        };
        tokio::join!(lifecycle.run_shutdown(&CONFIG), client);
        assert_eq!(lifecycle.cuts(), 1);
    }
}
