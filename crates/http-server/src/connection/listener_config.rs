//! The limits and tokens of a listener.

use lifecycle::Lifecycle;
use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::connection::admission::Admission;
use crate::connection::deadlines::ConnectionTimeouts;
use crate::connection::ended::ConnectionEnds;
use crate::connection::tls::Tls;

/// Limits and tokens of one listener.
#[derive(Clone)]
pub struct ListenerConfig {
    /// `public` or `admin`, for logs and metrics.
    pub name: &'static str,
    /// Certificate and key. `None` for a plain listener.
    pub tls: Option<Tls>,
    /// Time limits of a connection that waits for its client.
    pub patience: ConnectionTimeouts,
    /// HTTP/2 frames a second that one connection may send and that carry no request.
    pub control_frames: u32,
    /// Limits of connections, in all and of one client.
    pub admission: Admission,
    /// Whether a connection may have more than one request (HTTP/1.1).
    pub keep_alive: bool,
    /// Lifecycle of the process. Its drain sends GOAWAY to HTTP/2 clients. Answers that were cut
    /// are reported to it.
    pub lifecycle: Lifecycle,
    /// Stops accepting connections. Requests in flight are finished.
    pub stop: CancellationToken,
    /// Drops the connections that are left.
    pub kill: CancellationToken,
    /// Number of open connections.
    pub open: IntGauge,
    /// Counts connections and streams that are ended because of their clients.
    pub ended: ConnectionEnds,
}
