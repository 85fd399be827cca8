//! Configuration of the shutdown.

use std::time::Duration;

use settings::settings;

settings! {
    /// Timing of the shutdown.
    pub struct Config("lifecycle") {
        /// Time between failing readiness and closing the listener, so that load balancers stop
        /// sending requests.
        pub drain_delay("drain_delay"): Duration = PerProfile { development: "0s", production: "5s" };
        /// Time for requests in flight to finish before they are cut.
        pub grace_period("grace_period"): Duration = PerProfile { development: "5s", production: "20s" };
    }
}
