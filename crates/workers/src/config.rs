//! Background work: its keys.

use std::time::Duration;

use settings::check::positive;
use settings::settings;

settings! {
    /// Background work.
    pub struct Config("workers") {
        /// Time between two removals of what has expired (idempotency keys, refresh tokens).
        pub cleanup_interval("cleanup_interval"): Duration = Same("5m"), check positive;
    }
}
