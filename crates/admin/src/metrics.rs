//! Metrics of the admin listener itself.

use prometheus::IntCounterVec;
use telemetry::metrics;

metrics! {
    /// The admin listener.
    pub struct AdminMetrics {
        /// Requests with an admin token, by outcome: `accepted`, `refused` or `limited`. A request
        /// is `limited` if its client has sent `admin.max_token_guesses` wrong tokens within a
        /// minute.
        pub token_checks: IntCounterVec = "admin_token_checks_total"["outcome"];
    }
}
