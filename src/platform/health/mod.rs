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

use axum::Json;
use axum::Router;
use axum::extract::State as AxumState;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use prometheus::IntGaugeVec;
use serde_json::json;

use crate::platform::lifecycle::{Lifecycle, State};

pub use check::{Probe, Schedule};
pub use heartbeat::Heartbeat;

use check::{Check, Status};
use settings::clock::SharedClock;
use telemetry::metrics;

const LIVE: &str = "/health/live";
const STARTUP: &str = "/health/startup";
const READY: &str = "/health/ready";
/// Until a check has held for the first time it runs again after this pause, which
/// doubles up to a quarter of its interval: a start does not wait for a schedule.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The paths of all probes.
pub const PROBES: [&str; 3] = [LIVE, STARTUP, READY];

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

    /// Probes that say nothing but `{"status": …}`, for the public listener.
    pub fn terse_routes(&self) -> Router {
        self.routes(false)
    }

    /// Probes that explain themselves, for the admin listener.
    pub fn verbose_routes(&self) -> Router {
        self.routes(true)
    }

    fn routes(&self, verbose: bool) -> Router {
        Router::new()
            .route(LIVE, get(live))
            .route(STARTUP, get(startup))
            .route(READY, get(ready))
            .with_state((self.clone(), verbose))
    }
}

/// Whether the runtime turns, and nothing else.
async fn live(AxumState((health, _)): AxumState<(Health, bool)>) -> Response {
    terse(health.heartbeat.beats())
}

/// Whether the process has initialised itself; it waits for nobody else.
async fn startup(AxumState((health, _)): AxumState<(Health, bool)>) -> Response {
    terse(health.initialised.load(Ordering::Acquire))
}

fn words(good: bool) -> (StatusCode, &'static str) {
    if good {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    }
}

fn terse(good: bool) -> Response {
    let (status, word) = words(good);
    (status, Json(json!({ "status": word }))).into_response()
}

async fn ready(AxumState((health, verbose)): AxumState<(Health, bool)>) -> Response {
    let ready = health.is_ready();
    if !verbose {
        return terse(ready);
    }
    let (status, word) = words(ready);
    let checks: serde_json::Map<_, _> = health
        .snapshot()
        .iter()
        .map(|check| {
            let status = check
                .status
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let since = status
                .since
                .format(&time::format_description::well_known::Rfc3339);
            let entry = json!({
                "up": status.up,
                "critical": check.critical,
                "since": since.unwrap_or_default(),
                "last_error": status.last_error.filter(|_| !status.up),
            });
            (check.name.to_string(), entry)
        })
        .collect();
    let state = health.lifecycle.state().as_str();
    (
        status,
        Json(json!({ "status": word, "state": state, "checks": checks })),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::platform::clock::SystemClock;
    use crate::platform::lifecycle::LifecycleMetrics;

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
            let result = match seen.fetch_add(1, Ordering::Relaxed) {
                0..3 => Err("not there yet"),
                _ => {
                    holds.notify_one();
                    Ok(())
                }
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
