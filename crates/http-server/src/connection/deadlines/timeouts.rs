//! Time limits of a connection, and reasons for its end.

use std::time::Duration;

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
