//! Named checks that run in the background, and the probes that read them.
//!
//! A probe reads memory: it costs nothing and asks no database. Liveness is the
//! runtime's own heartbeat; readiness falls with a critical check or with the drain.

mod check;
mod heartbeat;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntGaugeVec;

use crate::process::Lifecycle;
use crate::state::State;

pub use check::{CheckReport, Probe, Schedule};
pub use heartbeat::Heartbeat;

use check::{Check, Status};
use settings::clock::SharedClock;
use telemetry::metrics;

/// Until a check has held for the first time it runs again after this pause, which
/// doubles up to a quarter of its interval: a start does not wait for a schedule.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
metrics! {
    /// Readiness.
    pub struct HealthMetrics {
        /// 1 while the check holds.
        pub up: IntGaugeVec = "readiness_check_up"["check"];
        /// 1 for a check that takes the process out of service, 0 for one that only tells.
        pub critical: IntGaugeVec = "readiness_check_critical"["check"];
    }
}

/// The checks of a process.
#[derive(Clone)]
pub struct Health {
    lifecycle: Lifecycle,
    clock: SharedClock,
    metrics: HealthMetrics,
    checks: Arc<Mutex<Vec<Arc<Check>>>>,
    heartbeat: Heartbeat,
    initialised: Arc<AtomicBool>,
}

impl Health {
    /// Without checks, readiness is the lifecycle's. Starts the heartbeat.
    #[must_use]
    pub fn new(lifecycle: Lifecycle, clock: SharedClock, metrics: HealthMetrics) -> Self {
        let heartbeat = Heartbeat::default();
        heartbeat.start(&lifecycle);
        Self {
            lifecycle,
            clock,
            metrics,
            checks: Arc::default(),
            heartbeat,
            initialised: Arc::default(),
        }
    }

    /// The process has initialised itself: `/health/startup` holds from now on.
    pub fn initialised(&self) {
        self.initialised.store(true, Ordering::Release);
    }

    /// Adds a check, down until it has held, and runs it in the background.
    pub fn watch(
        &self,
        name: impl Into<Cow<'static, str>>,
        critical: bool,
        schedule: Schedule,
        probe: Probe,
    ) {
        let name = name.into();
        let task = format!("check {name}");
        let weight = self.metrics.critical.with_label_values(&[&*name]);
        weight.set(i64::from(critical));
        let check = Arc::new(Check {
            critical,
            status: Mutex::new(Status {
                up: false,
                since: self.clock.now(),
                last_error: Some("not checked yet"),
            }),
            gauge: self.metrics.up.with_label_values(&[&*name]),
            name,
        });
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&check));
        let stop = self.lifecycle.soft();
        let clock = Arc::clone(&self.clock);
        self.lifecycle.spawn(task, async move {
            let mut streak = 0;
            let mut starting = Some(FIRST_PAUSE);
            loop {
                let result = tokio::select! {
                    () = stop.cancelled() => return,
                    result = tokio::time::timeout(schedule.timeout, probe()) => {
                        result.unwrap_or(Err("timed out"))
                    }
                };
                if starting.is_some() {
                    // The first good result counts at once.
                    streak = schedule.successes;
                }
                streak = check.apply(result, streak, schedule, clock.now());
                let pause = if check.is_up() {
                    starting = None;
                    schedule.interval
                } else if let Some(pause) = starting {
                    starting = Some((pause * 2).min(schedule.interval / 4));
                    pause
                } else {
                    schedule.interval / 4
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Whether everything critical holds and nobody is leaving.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lifecycle.state() == State::Ready
            && self
                .snapshot()
                .iter()
                .all(|check| check.is_up() || !check.critical)
    }

    fn snapshot(&self) -> Vec<Arc<Check>> {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What is known of every check.
    #[must_use]
    pub fn report(&self) -> Vec<CheckReport> {
        let checks = self.snapshot();
        checks.iter().map(|check| check.report()).collect()
    }

    /// Whether the runtime turns, and nothing else.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.heartbeat.beats()
    }

    /// Whether the process has initialised itself; it waits for nobody else.
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::Acquire)
    }

    /// Where the process is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.lifecycle.state()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::process::LifecycleMetrics;
    use settings::clock::SystemClock;

    #[tokio::test]
    async fn a_start_does_not_wait_for_the_schedule_of_a_check() {
        let registry = prometheus::Registry::new();
        let lifecycle = Lifecycle::new(LifecycleMetrics::register(&registry).unwrap());
        let metrics = HealthMetrics::register(&registry).unwrap();
        let health = Health::new(lifecycle, Arc::new(SystemClock), metrics);
        let looks = Arc::new(AtomicU32::new(0));
        let held = Arc::new(tokio::sync::Notify::new());
        let (seen, holds) = (Arc::clone(&looks), Arc::clone(&held));
        let schedule = Schedule {
            interval: Duration::from_hours(1),
            ..Schedule::default()
        };
        let probe: Probe = Arc::new(move || {
            let result = if seen.fetch_add(1, Ordering::Relaxed) < 3 {
                Err("not there yet")
            } else {
                holds.notify_one();
                Ok(())
            };
            Box::pin(std::future::ready(result))
        });
        health.watch("database", true, schedule, probe);
        let bound = Duration::from_secs(30);
        tokio::time::timeout(bound, held.notified()).await.unwrap();
        // The result is taken in by the same poll that asked for it.
        tokio::task::yield_now().await;
        assert!(health.snapshot().iter().all(|check| check.is_up()));
        assert_eq!(looks.load(Ordering::Relaxed), 4);
    }
}
