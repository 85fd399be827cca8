//! The end of the process's life, step by step; each says in the log what it
//! waited for, and for how long.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::process::Lifecycle;
use crate::state::State;

/// What was cut may take this long to let go of what it holds.
const LETTING_GO: Duration = Duration::from_secs(1);
/// Milliseconds that nobody asks about: an idle process leaves with one line.
const WORTH_TELLING: u64 = 100;

/// Waits for a step of the shutdown, at most for `bound`, and logs how long it took.
/// Returns whether it ended in time.
pub async fn step(name: &'static str, bound: Duration, work: impl Future<Output = ()>) -> bool {
    let began = Instant::now();
    let ended = tokio::time::timeout(bound, work).await.is_ok();
    log(name, began, ended, "");
    ended
}

fn log(step: &'static str, began: Instant, in_time: bool, waited_for: &str) {
    let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if in_time && waited_ms < WORTH_TELLING {
        tracing::debug!(step, waited_ms, waited_for, "shutdown step");
    } else if in_time {
        tracing::info!(step, waited_ms, waited_for, "shutdown step");
    } else {
        tracing::warn!(step, waited_ms, waited_for, "shutdown step: out of time");
    }
}

impl Lifecycle {
    /// Waits for the end of the process's life and sees it through: drain, soft
    /// stop within the grace period, hard stop. [`Lifecycle::cuts`] says afterwards
    /// how much did not get to finish.
    pub async fn run_down(&self, config: &Config) {
        self.inner.draining.cancelled().await;
        // Who was never ready has no load balancer that must learn of its end.
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
        self.inner.work.watch();
        self.inner.soft.cancel();
        self.inner.tracker.close();
        let finished = tokio::time::timeout(config.grace_period, self.inner.tracker.wait())
            .await
            .is_ok();
        log(
            "finish",
            began,
            finished,
            &self.inner.work.waited_for(began),
        );
        if finished {
            self.inner.hard.cancel();
            return;
        }

        let began = Instant::now();
        tracing::warn!(
            left = self.still_running().join(", "),
            "the grace period is over; cutting what is left"
        );
        self.inner.work.watch();
        self.inner.hard.cancel();
        let gone = tokio::time::timeout(LETTING_GO, self.inner.tracker.wait())
            .await
            .is_ok();
        log("cut", began, gone, &self.inner.work.waited_for(began));
        // Whatever does not even hear the hard token ends with the process.
        for (kind, name) in self.inner.work.open() {
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
    async fn the_drain_delay_comes_first_and_workers_end_at_the_soft_token() {
        let lifecycle = lifecycle();
        let soft = lifecycle.soft();
        lifecycle.spawn("worker", async move { soft.cancelled().await });
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let began = Instant::now();
        lifecycle.run_down(&CONFIG).await;
        assert!(began.elapsed() >= CONFIG.drain_delay);
        assert_eq!(lifecycle.state(), State::Stopping);
        assert_eq!((lifecycle.cuts(), lifecycle.has_failed()), (0, false));
    }

    #[tokio::test]
    async fn who_was_never_ready_has_no_drain_delay() {
        let lifecycle = lifecycle();
        lifecycle.shut_down("test");
        let began = Instant::now();
        let config = Config {
            drain_delay: Duration::from_mins(1),
            ..CONFIG
        };
        lifecycle.run_down(&config).await;
        assert!(began.elapsed() < config.drain_delay);
    }

    #[tokio::test]
    async fn who_ends_at_the_hard_token_without_leaving_work_is_no_cut() {
        let lifecycle = lifecycle();
        let hard = lifecycle.hard();
        lifecycle.spawn("listener", async move { hard.cancelled().await });
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let began = Instant::now();
        lifecycle.run_down(&CONFIG).await;
        assert!(began.elapsed() >= CONFIG.drain_delay + CONFIG.grace_period);
        assert_eq!(lifecycle.cuts(), 0);
    }

    #[tokio::test]
    async fn who_does_not_hear_the_hard_token_is_cut_and_holds_nobody() {
        let lifecycle = lifecycle();
        lifecycle.spawn("stubborn", std::future::pending());
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        lifecycle.run_down(&CONFIG).await;
        assert_eq!(lifecycle.cuts(), 1);
    }

    #[tokio::test]
    async fn a_stream_that_says_goodbye_is_waited_for_and_no_cut() {
        let lifecycle = lifecycle();
        let stream = lifecycle.stream(StreamKind::Sse, "GET /events");
        let gauge = lifecycle.inner.metrics.streams.with_label_values(&["sse"]);
        assert_eq!(gauge.get(), 1);
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let goodbye = async {
            stream.soft().cancelled().await;
            tokio::task::yield_now().await;
            stream.end();
        };
        tokio::join!(lifecycle.run_down(&CONFIG), goodbye);
        assert_eq!((lifecycle.cuts(), gauge.get()), (0, 0));
    }

    #[tokio::test]
    async fn a_stream_that_stays_is_cut_and_one_that_its_client_left_is_not() {
        let lifecycle = lifecycle();
        let stays = lifecycle.stream(StreamKind::Sse, "GET /events");
        let left = lifecycle.stream(StreamKind::WebSocket, "GET /socket");
        lifecycle.enter(State::Ready);
        lifecycle.shut_down("test");
        let client = async {
            left.soft().cancelled().await;
            drop(left);
            stays.hard().cancelled().await;
            drop(stays);
        };
        tokio::join!(lifecycle.run_down(&CONFIG), client);
        assert_eq!(lifecycle.cuts(), 1);
    }
}
