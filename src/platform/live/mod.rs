//! Streams to clients: their keys. Server-sent events and WebSockets arrive with
//! the live slice; until then the keys are checked and nothing uses them.

use std::time::Duration;

use settings::ByteSize;
use settings::check::{at_least_one, positive};
use settings::settings;

settings! {
    /// Limits of WebSockets and event streams.
    pub struct Config("live") {
        /// Largest WebSocket message; beyond it close code 1009.
        pub max_message("max_message"): ByteSize = Same("64KiB");
        /// Time between pings.
        pub ping_interval("ping_interval"): Duration = Same("20s"), check positive;
        /// Silence after which a connection is closed.
        pub idle_timeout("idle_timeout"): Duration = Same("60s"), check positive;
        /// Events buffered for one consumer before it is told to resync.
        pub buffer("buffer"): u32 = Same("256"), check at_least_one;
    }
}
