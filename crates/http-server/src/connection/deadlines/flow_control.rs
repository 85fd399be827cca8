//! The part of the deadlines that depends on the flow control of HTTP/2.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body::Body;
use quanta::Instant;

use super::ConnectionDeadlines;

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
