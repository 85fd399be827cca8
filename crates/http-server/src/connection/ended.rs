//! What a listener ends because of its clients.

use telemetry::metrics;

use crate::connection::deadlines::Lapse;
use crate::connection::flood;

/// Why connections are ended.
const REASONS: [Lapse; 4] = [Lapse::Header, Lapse::Idle, Lapse::Write, Lapse::Flood];

metrics! {
    /// Connections and streams that a listener ended because of their clients.
    pub struct Ended {
        /// Connections that the service ended because of their clients.
        /// `header`: no header in time, or half of one; `idle`: no next request in time;
        /// `unread`: answers not read, or too slowly; `flood`: HTTP/2 frames without end
        /// that ask for nothing.
        pub connections: prometheus::IntCounterVec = "http_connections_ended_total"["reason"];
        /// Answers on HTTP/2 that were given up because their client took them too slowly.
        /// Their connection goes on; their requests are recorded as `499`.
        pub streams_unread: prometheus::IntCounter = "http2_streams_unread_total";
        /// HTTP/2 connections that were ended for too many frames that ask for nothing.
        /// The bound is `http.max_control_frames`; `frame` is the type of the one too many.
        pub floods: prometheus::IntCounterVec = "http2_floods_total"["frame"];
    }
}

impl Ended {
    /// Makes every series appear.
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

    /// Counts a connection that ends after a frame of this type.
    #[cold]
    pub(crate) fn count_flood(&self, frame: u8) {
        self.count(Lapse::Flood);
        self.floods.with_label_values(&[flood::label(frame)]).inc();
    }

    /// Counts a connection that ends.
    pub(crate) fn count(&self, lapse: Lapse) {
        self.connections.with_label_values(&[label(lapse)]).inc();
    }
}

fn label(lapse: Lapse) -> &'static str {
    match lapse {
        Lapse::Header => "header",
        Lapse::Idle => "idle",
        Lapse::Write => "unread",
        Lapse::Flood => "flood",
    }
}
