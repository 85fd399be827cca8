//! A time that several tasks of a connection read and write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quanta::Instant;

/// Nanoseconds since the start of the connection, plus one. 0 means never.
#[derive(Default)]
pub(crate) struct AtomicInstant(AtomicU64);

impl AtomicInstant {
    pub(crate) fn set_now(&self, born: Instant) {
        let nanos = u64::try_from(born.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
        self.0.store(nanos + 1, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn get(&self, born: Instant) -> Option<Instant> {
        let nanos = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(born + Duration::from_nanos(nanos))
    }
}
