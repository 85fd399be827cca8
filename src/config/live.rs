//! Configuration of streams to clients. Server-sent events and WebSockets follow with the live
//! slice. Until then the keys are checked and have no effect.

use std::time::Duration;

use settings::check::{at_least_one, positive};
use settings::{ByteSize, settings};

settings! {
    /// Limits of WebSockets and event streams.
    pub struct Config("live") {
        /// Largest WebSocket message. A larger one closes the connection with code 1009.
        pub max_message("max_message"): ByteSize = Same("64KiB");
        /// Time between pings.
        pub ping_interval("ping_interval"): Duration = Same("20s"), check positive;
        /// Time without traffic after which a connection is closed.
        pub idle_timeout("idle_timeout"): Duration = Same("60s"), check positive;
        /// Events that are buffered for one consumer. Beyond it, the consumer has to resync.
        pub buffer("buffer"): u32 = Same("256"), check at_least_one;
    }
}
