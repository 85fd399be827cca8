//! Connections and streams that a listener ends because of their clients.

use telemetry::metrics;

use crate::connection::deadlines::EndReason;
use crate::connection::flood;

/// The reasons for ending a connection.
const REASONS: [EndReason; 4] = [
    EndReason::Header,
    EndReason::Idle,
    EndReason::Write,
    EndReason::Flood,
];

metrics! {
    /// Connections and streams that a listener ended because of their clients.
    pub struct ConnectionEnds {
        /// Connections that the service ended because of their clients. `header`: no header in
        /// time, or an incomplete one. `idle`: no next request in time. `unread`: answers not read,
        /// or read too slowly. `flood`: too many HTTP/2 frames that carry no request.
        pub connections: prometheus::IntCounterVec = "http_connections_ended_total"["reason"];
        /// Answers on HTTP/2 that were ended because their client read them too slowly. Their
        /// connection stays open. Their requests are recorded with status `499`.
        pub streams_unread: prometheus::IntCounter = "http2_streams_unread_total";
        /// HTTP/2 connections that were ended because of too many frames that carry no request. The
        /// limit is `http.max_control_frames`. `frame` is the type of the frame that exceeded it.
        pub floods: prometheus::IntCounterVec = "http2_floods_total"["frame"];
    }
}

impl ConnectionEnds {
    /// Creates every series with the value 0.
    #[must_use]
    pub fn with_every_reason(self) -> Self {
        for reason in REASONS {
            self.connections.with_label_values(&[label(reason)]);
        }
        for frame in flood::LABELS {
            self.floods.with_label_values(&[frame]);
        }
        self
    }

    /// Counts a connection that ends because of too many frames. `frame` is the type of the last
    /// one.
    pub(crate) fn count_flood(&self, frame: u8) {
        self.count(EndReason::Flood);
        self.floods.with_label_values(&[flood::label(frame)]).inc();
    }

    /// Counts a connection that ends.
    pub(crate) fn count(&self, lapse: EndReason) {
        self.connections.with_label_values(&[label(lapse)]).inc();
    }
}

fn label(lapse: EndReason) -> &'static str {
    match lapse {
        EndReason::Header => "header",
        EndReason::Idle => "idle",
        EndReason::Write => "unread",
        EndReason::Flood => "flood",
    }
}
