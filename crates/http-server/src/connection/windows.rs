//! Flow-control windows of an HTTP/2 client (RFC 9113, section 6.9), and the answers that wait for
//! them.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::connection::atomic_instant::AtomicInstant;

/// Size of both windows of a new connection, in bytes (RFC 9113, section 6.9.2).
const INITIAL: i64 = 65_535;

/// The windows that the client has announced.
pub(crate) struct Windows {
    /// Window of a new stream.
    pub(crate) stream: AtomicI64,
    /// Window of the connection, less the bytes that were given to hyper. Bytes of a stream that is
    /// reset before they are sent stay subtracted. Then answers may be cut into pieces without
    /// need.
    pub(crate) connection: AtomicI64,
    /// Number of answers that wait for the client.
    stalls: AtomicU32,
    /// Time at which the last of them began to wait, or its client read fast enough.
    pub(crate) stalled_since: AtomicInstant,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            stream: AtomicI64::new(INITIAL),
            connection: AtomicI64::new(INITIAL),
            stalls: AtomicU32::new(0),
            stalled_since: AtomicInstant::default(),
        }
    }
}

impl Windows {
    /// Records the window that the client has set for its streams.
    pub(crate) fn set_stream(&self, window: u32) {
        self.stream.store(window.into(), Ordering::Relaxed);
    }

    /// Records that the client has opened the window of the connection.
    pub(crate) fn open(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let _before =
            self.connection
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                    Some(window.saturating_add(bytes))
                });
    }

    pub(crate) fn stalls(&self) -> u32 {
        self.stalls.load(Ordering::Acquire)
    }

    pub(crate) fn add_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Release);
    }

    /// Records that an answer no longer waits for the client.
    pub(crate) fn end_stall(&self) {
        self.stalls.fetch_sub(1, Ordering::Release);
    }
}
