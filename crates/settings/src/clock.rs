//! Time and ids, handed in so that tests can hold them still.

use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

/// Where the time of day comes from.
pub trait Clock: Send + Sync + 'static {
    /// Now, in UTC, to the microsecond: what both databases can store.
    fn now(&self) -> OffsetDateTime;
}

/// The shared clock of a process.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        // The one place that asks the system.
        #[allow(clippy::disallowed_methods)]
        let now = OffsetDateTime::now_utc();
        let below = now.nanosecond() % 1_000;
        now - time::Duration::nanoseconds(i64::from(below))
    }
}

/// A new identifier: UUIDv7 (RFC 9562), which sorts by the time of its making.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// Microseconds since the epoch, as SQLite stores a time.
#[must_use]
pub fn to_micros(time: OffsetDateTime) -> i64 {
    // In range until the year 294,000.
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The time that [`to_micros`] stored.
#[must_use]
pub fn from_micros(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
