//! Time limits of a wait, and its beginning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quanta::Instant;

/// Time limits of a connection that waits for its client.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionTimeouts {
    /// For the first byte of a new connection, and for the rest of a header.
    pub header: Duration,
    /// For the next request, and for a client that does not read.
    pub idle: Duration,
    /// Bytes a second that a client must read.
    pub rate: u64,
}

impl ConnectionTimeouts {
    /// Whether `bytes` in `time` are enough.
    pub(crate) fn is_met(self, bytes: u64, time: Duration) -> bool {
        u128::from(bytes) * 1_000 >= u128::from(self.rate) * time.as_millis()
    }
}

/// Reason why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// No header, or an incomplete one, in time.
    Header,
    /// No next request in time.
    Idle,
    /// The client does not read its answer, or reads too little of it.
    Write,
    /// The client sends too many HTTP/2 frames that carry no request.
    Flood,
}

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
