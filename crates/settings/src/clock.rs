//! The clock and new identifiers. Tests replace the clock.

use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;
use uuid::Uuid;

/// Source of the time of day.
pub trait Clock: Send + Sync + 'static {
    /// The current time in UTC. Microseconds are the precision that both databases store.
    fn now(&self) -> OffsetDateTime;
}

/// The clock that a process shares.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::from(system_time());
        let below = now.nanosecond() % 1_000;
        now - time::Duration::nanoseconds(i64::from(below))
    }
}

/// The system's wall clock, for timestamps of telemetry. Everything else uses a [`Clock`].
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the only call: all other code uses this function or a clock"
)]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// A new identifier: UUIDv7 (RFC 9562), which sorts by creation time.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// Microseconds since the epoch, the form in which SQLite stores times.
#[must_use]
pub fn to_micros(time: OffsetDateTime) -> i64 {
    // In range until the year 294,000.
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// Inverse of [`to_micros`].
#[must_use]
pub fn from_micros(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
