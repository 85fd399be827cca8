//! Configuration of background work.

use std::time::Duration;

use settings::check::positive;
use settings::settings;

settings! {
    /// Background work.
    pub struct Config("workers") {
        /// Time between two removals of expired data (idempotency keys, refresh tokens).
        pub cleanup_interval("cleanup_interval"): Duration = Same("5m"), check positive;
    }
}
