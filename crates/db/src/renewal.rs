//! From when on a session is trusted: after some faults the older ones are not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::Reason;
use crate::metrics::DbMetrics;

/// What a session from the pool needs before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    Use,
    /// A sign of life.
    Ask,
    /// It is closed.
    Close,
}

/// The two points in time, and the counter of what is closed.
pub(crate) struct Renewal {
    origin: Instant,
    /// Nanoseconds after `origin`. Sessions that were opened earlier are closed.
    opened_after: AtomicU64,
    /// Sessions that were used last before this are asked for a sign of life.
    answered_after: AtomicU64,
    /// Why sessions are closed.
    reason: Mutex<Reason>,
    /// Sessions that failed.
    failures: AtomicU64,
    /// A session has met damaged data.
    corrupt: AtomicBool,
    metrics: Arc<DbMetrics>,
}

impl Renewal {
    pub(crate) fn new(metrics: Arc<DbMetrics>) -> Arc<Self> {
        for reason in Reason::ALL {
            metrics.discarded.with_label_values(&[reason.name()]);
        }
        Arc::new(Self {
            origin: Instant::now(),
            opened_after: AtomicU64::new(0),
            answered_after: AtomicU64::new(0),
            reason: Mutex::new(Reason::Lost),
            failures: AtomicU64::new(0),
            corrupt: AtomicBool::new(false),
            metrics,
        })
    }

    fn nanos(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.origin);
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Distrusts every session that is open now.
    pub(crate) fn close_older(&self, reason: Reason) {
        tracing::debug!(
            reason = reason.name(),
            "sessions of the pool are not trusted any more"
        );
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        let now = self.nanos(Instant::now());
        self.opened_after.fetch_max(now, Ordering::AcqRel);
    }

    /// Has every session that is idle now asked before its next use.
    pub(crate) fn ask_older(&self) {
        let now = self.nanos(Instant::now());
        self.answered_after.fetch_max(now, Ordering::AcqRel);
    }

    /// Whether a session that was trusted at `since` still is.
    pub(crate) fn trusts(&self, since: Instant) -> bool {
        self.nanos(since) >= self.opened_after.load(Ordering::Acquire)
    }

    /// What a session of this age needs that has been idle for so long.
    pub(crate) fn before_use(&self, age: Duration, idle_for: Duration) -> Before {
        let now = self.nanos(Instant::now());
        let ago =
            |time: Duration| now.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if ago(age) < self.opened_after.load(Ordering::Acquire) {
            Before::Close
        } else if ago(idle_for) < self.answered_after.load(Ordering::Acquire) {
            Before::Ask
        } else {
            Before::Use
        }
    }

    /// Why sessions are closed that were open at the last renewal.
    pub(crate) fn reason(&self) -> Reason {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a session failed, for the check.
    pub(crate) fn failed(&self, reason: Reason) {
        self.failures.fetch_add(1, Ordering::AcqRel);
        if reason == Reason::Corrupt {
            self.corrupt.store(true, Ordering::Release);
        }
    }

    /// Sessions that failed until now.
    #[cfg(feature = "sqlite")]
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// Whether damaged data was met, and not found whole since.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt.load(Ordering::Acquire)
    }

    /// The data was found whole.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_whole(&self) {
        self.corrupt.store(false, Ordering::Release);
    }

    /// Counts a session that is closed before its time.
    pub(crate) fn count(&self, reason: Reason) {
        let discarded = &self.metrics.discarded;
        discarded.with_label_values(&[reason.name()]).inc();
    }
}
