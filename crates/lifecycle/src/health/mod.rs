//! Named checks that run in the background, and the state of the probes.
//!
//! A probe reads memory and never queries a database. Liveness is the heartbeat of the runtime.
//! Readiness fails with a critical check or when the process drains.

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
use settings::backoff::Backoff;
use settings::clock::SharedClock;
use telemetry::metrics;

/// Pause before the first retry of a new check. It doubles up to a quarter of the interval, so that
/// the start does not wait for the schedule.
const INITIAL_PAUSE: Duration = Duration::from_millis(10);
metrics! {
    /// Readiness checks.
    pub struct HealthMetrics {
        /// Result of the readiness check: 1 when it passes.
        pub up: IntGaugeVec = "readiness_check_up"["check"];
        /// Weight of the readiness check: 1 if its failure makes the process not ready, 0 if it is
        /// only reported.
        pub critical: IntGaugeVec = "readiness_check_critical"["check"];
    }
}

/// The checks of the process.
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
    /// Starts the heartbeat. Without checks, readiness depends on the lifecycle only.
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

    /// Marks the process as initialised: `/health/startup` succeeds from now on.
    pub fn initialised(&self) {
        self.initialised.store(true, Ordering::Release);
    }

    /// Adds a check and runs it in the background. It is down until its first success.
    pub fn add_check(
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
            // Until the first success.
            let mut backoff = Some(Backoff::new(INITIAL_PAUSE, schedule.interval / 4));
            loop {
                let result = tokio::select! {
                    () = stop.cancelled() => return,
                    result = tokio::time::timeout(schedule.timeout, probe()) => {
                        result.unwrap_or(Err("timed out"))
                    }
                };
                if backoff.is_some() {
                    // The first success counts immediately.
                    streak = schedule.successes;
                }
                streak = check.apply(result, streak, schedule, clock.now());
                let pause = if check.is_up() {
                    backoff = None;
                    schedule.interval
                } else {
                    backoff
                        .as_mut()
                        .map_or(schedule.interval / 4, Backoff::next_pause)
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Whether all critical checks pass and the process is not shutting down.
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

    /// Snapshots of all checks.
    #[must_use]
    pub fn report(&self) -> Vec<CheckReport> {
        let checks = self.snapshot();
        checks.iter().map(|check| check.report()).collect()
    }

    /// Whether the runtime is alive.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.heartbeat.is_recent()
    }

    /// Whether the process is initialised. Dependencies are not considered.
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::Acquire)
    }

    /// The state of the process.
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
    async fn a_new_check_is_retried_before_its_interval() {
        let registry = prometheus::Registry::new();
        let lifecycle = Lifecycle::new(LifecycleMetrics::register(&registry).unwrap());
        let metrics = HealthMetrics::register(&registry).unwrap();
        let health = Health::new(lifecycle, Arc::new(SystemClock), metrics);
        let runs = Arc::new(AtomicU32::new(0));
        let passed = Arc::new(tokio::sync::Notify::new());
        let (counted, passing) = (Arc::clone(&runs), Arc::clone(&passed));
        let schedule = Schedule {
            interval: Duration::from_hours(1),
            ..Schedule::default()
        };
        let probe: Probe = Arc::new(move || {
            let result = if counted.fetch_add(1, Ordering::Relaxed) < 3 {
                Err("not there yet")
            } else {
                passing.notify_one();
                Ok(())
            };
            Box::pin(std::future::ready(result))
        });
        health.add_check("database", true, schedule, probe);
        let bound = Duration::from_secs(30);
        tokio::time::timeout(bound, passed.notified())
            .await
            .unwrap();
        // The check applies the result in the same poll that ran the probe.
        tokio::task::yield_now().await;
        assert!(health.snapshot().iter().all(|check| check.is_up()));
        assert_eq!(runs.load(Ordering::Relaxed), 4);
    }
}
