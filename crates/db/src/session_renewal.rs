//! Renewal of sessions. After some faults the older sessions are closed or pinged before their next
//! use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::DiscardReason;
use crate::metrics::DbMetrics;

/// The step before a session from the pool is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionAction {
    /// Use it.
    Use,
    /// Ping it first.
    Ping,
    /// Close it.
    Close,
}

/// Two points in time, which decide about the sessions that are older, and the counters of failed
/// and of closed sessions.
pub(crate) struct SessionRenewal {
    origin: Instant,
    /// Nanoseconds after `origin`. Sessions that were opened earlier are closed.
    opened_after: AtomicU64,
    /// Sessions that were last used before this are pinged.
    answered_after: AtomicU64,
    /// The reason for closing older sessions.
    reason: Mutex<DiscardReason>,
    /// Number of sessions that failed.
    failures: AtomicU64,
    /// A session has met damaged data.
    corrupt: AtomicBool,
    metrics: Arc<DbMetrics>,
}

impl SessionRenewal {
    pub(crate) fn new(metrics: Arc<DbMetrics>) -> Arc<Self> {
        for reason in DiscardReason::ALL {
            metrics.discarded.with_label_values(&[reason.name()]);
        }
        Arc::new(Self {
            origin: Instant::now(),
            opened_after: AtomicU64::new(0),
            answered_after: AtomicU64::new(0),
            reason: Mutex::new(DiscardReason::Lost),
            failures: AtomicU64::new(0),
            corrupt: AtomicBool::new(false),
            metrics,
        })
    }

    fn nanos(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.origin);
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Marks every session that is open now for closing.
    pub(crate) fn close_older(&self, reason: DiscardReason) {
        tracing::debug!(
            reason = reason.name(),
            "the open sessions of the pool are marked for closing"
        );
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        let now = self.nanos(Instant::now());
        self.opened_after.fetch_max(now, Ordering::AcqRel);
    }

    /// Marks every session that is idle now for a ping before its next use.
    pub(crate) fn ping_older(&self) {
        let now = self.nanos(Instant::now());
        self.answered_after.fetch_max(now, Ordering::AcqRel);
    }

    /// Returns true if no renewal has closed sessions that were open at `since`.
    pub(crate) fn is_valid(&self, since: Instant) -> bool {
        self.nanos(since) >= self.opened_after.load(Ordering::Acquire)
    }

    /// The step before the use of a session with this age and idle time.
    pub(crate) fn action_before_use(&self, age: Duration, idle_for: Duration) -> SessionAction {
        let now = self.nanos(Instant::now());
        let ago =
            |time: Duration| now.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if ago(age) < self.opened_after.load(Ordering::Acquire) {
            SessionAction::Close
        } else if ago(idle_for) < self.answered_after.load(Ordering::Acquire) {
            SessionAction::Ping
        } else {
            SessionAction::Use
        }
    }

    /// The reason for closing the sessions that were open at the last renewal.
    pub(crate) fn reason(&self) -> DiscardReason {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records for the readiness check that a session failed.
    pub(crate) fn record_failure(&self, reason: DiscardReason) {
        self.failures.fetch_add(1, Ordering::AcqRel);
        if reason == DiscardReason::Corrupt {
            self.corrupt.store(true, Ordering::Release);
        }
    }

    /// Number of sessions that have failed.
    #[cfg(feature = "sqlite")]
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// Returns true if a session met damaged data and no check has found the data intact since.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt.load(Ordering::Acquire)
    }

    /// Records that the data is intact.
    #[cfg(feature = "sqlite")]
    pub(crate) fn mark_intact(&self) {
        self.corrupt.store(false, Ordering::Release);
    }

    /// Counts a session that is closed early.
    pub(crate) fn count_discarded(&self, reason: DiscardReason) {
        let discarded = &self.metrics.discarded;
        discarded.with_label_values(&[reason.name()]).inc();
    }
}
