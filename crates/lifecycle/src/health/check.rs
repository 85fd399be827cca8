//! A single check: its schedule, and the rule for changes of its state.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus::IntGauge;
use time::OffsetDateTime;

/// Interval and timeout of a check, and the number of results that change its state.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Time between two runs.
    pub interval: Duration,
    /// Time for one run.
    pub timeout: Duration,
    /// Failures in a row until the check is down.
    pub failures: u32,
    /// Successes in a row until the check is up.
    pub successes: u32,
}

impl Default for Schedule {
    /// Down within 5 s, up within 3 s. A single lost packet does not change the state.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 2,
            successes: 2,
        }
    }
}

/// A check. The error is a reason that may be shown to clients.
pub type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), &'static str>> + Send + Sync>;

#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) up: bool,
    pub(crate) since: OffsetDateTime,
    pub(crate) last_error: Option<&'static str>,
}

pub(crate) struct Check {
    pub(crate) name: Cow<'static, str>,
    pub(crate) critical: bool,
    pub(crate) status: Mutex<Status>,
    pub(crate) gauge: IntGauge,
}

/// Snapshot of a check.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Name of the check.
    pub name: Cow<'static, str>,
    /// Whether a failure makes the process not ready.
    pub critical: bool,
    /// Whether the check passes.
    pub up: bool,
    /// Time of the last change.
    pub since: OffsetDateTime,
    /// Reason of the last failure.
    pub last_error: Option<&'static str>,
}

impl Check {
    pub(crate) fn report(&self) -> CheckReport {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        CheckReport {
            name: self.name.clone(),
            critical: self.critical,
            up: status.up,
            since: status.since,
            last_error: status.last_error,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .up
    }

    /// Applies a result. Returns the number of consecutive results that contradict the state.
    pub(crate) fn apply(
        &self,
        result: Result<(), &'static str>,
        streak: u32,
        schedule: Schedule,
        now: OffsetDateTime,
    ) -> u32 {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = result.is_ok();
        if let Err(why) = result {
            status.last_error = Some(why);
        }
        if passes == status.up {
            return 0;
        }
        let streak = streak + 1;
        let needed = if passes {
            schedule.successes
        } else {
            schedule.failures
        };
        if streak < needed {
            return streak;
        }
        status.up = passes;
        status.since = now;
        self.gauge.set(i64::from(passes));
        if passes {
            tracing::info!(check = &*self.name, "readiness check passed");
        } else {
            tracing::warn!(
                check = &*self.name,
                error = status.last_error,
                "readiness check failed"
            );
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Check {
        Check {
            name: "test".into(),
            critical: true,
            status: Mutex::new(Status {
                up: true,
                since: OffsetDateTime::UNIX_EPOCH,
                last_error: None,
            }),
            gauge: IntGauge::new("test", "test").unwrap(),
        }
    }

    #[test]
    fn a_success_resets_the_count_of_failures() {
        let (check, schedule) = (
            check(),
            Schedule {
                failures: 2,
                ..Schedule::default()
            },
        );
        let mut streak = 0;
        for (passes, up) in [(false, true), (true, true), (false, true), (false, false)] {
            let result = if passes { Ok(()) } else { Err("down") };
            streak = check.apply(result, streak, schedule, OffsetDateTime::UNIX_EPOCH);
            assert_eq!(check.is_up(), up);
        }
        for up in [false, true] {
            streak = check.apply(Ok(()), streak, schedule, OffsetDateTime::UNIX_EPOCH);
            assert_eq!(check.is_up(), up);
        }
    }
}
