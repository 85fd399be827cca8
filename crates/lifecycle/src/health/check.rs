//! One check: what it asks, how often, and when a result changes its state.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus::IntGauge;
use time::OffsetDateTime;

/// How often a check runs and how many results change its state.
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
    /// Down within 5 s, up within 3 s; one lost packet flaps nothing.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 2,
            successes: 2,
        }
    }
}

/// A check: returns why it does not hold, in words that may be shown.
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

/// What is known of a check.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Whether it takes the process out of service.
    pub critical: bool,
    /// Whether it holds.
    pub up: bool,
    /// Since when.
    pub since: OffsetDateTime,
    /// Why it failed last.
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

    /// Takes a result in; returns how many results of the other kind came in a row.
    pub(crate) fn apply(
        &self,
        result: Result<(), &'static str>,
        streak: u32,
        schedule: Schedule,
        now: OffsetDateTime,
    ) -> u32 {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let good = result.is_ok();
        if let Err(why) = result {
            status.last_error = Some(why);
        }
        if good == status.up {
            return 0;
        }
        let streak = streak + 1;
        let needed = if good {
            schedule.successes
        } else {
            schedule.failures
        };
        if streak < needed {
            return streak;
        }
        status.up = good;
        status.since = now;
        self.gauge.set(i64::from(good));
        if good {
            tracing::info!(check = &*self.name, "readiness check holds");
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
    fn one_failure_flaps_nothing_and_a_success_between_starts_the_count_again() {
        let (check, schedule) = (
            check(),
            Schedule {
                failures: 2,
                ..Schedule::default()
            },
        );
        let mut streak = 0;
        for (good, up) in [(false, true), (true, true), (false, true), (false, false)] {
            let result = if good { Ok(()) } else { Err("down") };
            streak = check.apply(result, streak, schedule, OffsetDateTime::UNIX_EPOCH);
            assert_eq!(check.is_up(), up);
        }
        for up in [false, true] {
            streak = check.apply(Ok(()), streak, schedule, OffsetDateTime::UNIX_EPOCH);
            assert_eq!(check.is_up(), up);
        }
    }
}
