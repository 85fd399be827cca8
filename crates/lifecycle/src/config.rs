//! How long a process takes to say goodbye.

use std::time::Duration;

use settings::settings;

settings! {
    /// The drain.
    pub struct Config("lifecycle") {
        /// Serve on for this long after readiness fell, until load balancers have noticed.
        pub drain_delay("drain_delay"): Duration = PerProfile { development: "0s", production: "5s" };
        /// Requests in flight may take this long more before they are cut.
        pub grace_period("grace_period"): Duration = PerProfile { development: "5s", production: "20s" };
    }
}
