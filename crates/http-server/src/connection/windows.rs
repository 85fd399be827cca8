//! Flow-control windows of an HTTP/2 client (RFC 9113, section 6.9), and the answers that wait for
//! them.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use http_body::Body;
use quanta::Instant;

use crate::connection::deadlines::{AtomicInstant, ConnectionDeadlines};

/// Size of both windows of a new connection, in bytes (RFC 9113, section 6.9.2).
const INITIAL: i64 = 65_535;

/// The windows that the client has announced.
pub(crate) struct Windows {
    /// Window of a new stream.
    stream: AtomicI64,
    /// Window of the connection, less the bytes that were given to hyper. Bytes of a stream that is
    /// reset before they are sent stay subtracted. Then answers may be cut into pieces without
    /// need.
    connection: AtomicI64,
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

impl ConnectionDeadlines {
    /// Whether the windows have room for a body. A body of unknown length may not fit.
    pub(crate) fn fits(&self, body: &impl Body) -> bool {
        let windows = self.windows();
        let room = windows.stream.load(Ordering::Relaxed);
        let room = room.min(windows.connection.load(Ordering::Relaxed));
        match (body.size_hint().exact(), u64::try_from(room)) {
            (Some(length), Ok(room)) => length <= room,
            (length, _) => length == Some(0),
        }
    }

    /// Records that bytes of a body were given to hyper.
    pub(crate) fn spend(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let windows = self.windows();
        windows.connection.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Maximum bytes of a piece. A client that reads barely fast enough takes such a piece in time.
    pub(crate) fn piece(&self) -> u64 {
        let patience = self.patience();
        if patience.rate == 0 {
            return u64::MAX;
        }
        let millis = u64::try_from(patience.idle.as_millis()).unwrap_or(u64::MAX);
        patience.rate.saturating_mul(millis) / 2_000
    }

    /// Whether the deadline of the connection for an unread answer is due, or will be within
    /// `time`.
    pub(crate) fn is_about_to_lapse(&self, time: Duration) -> bool {
        self.stalled_since()
            .is_some_and(|since| since + self.patience().idle <= Instant::now() + time)
    }
}
