//! What the admin listener counts of itself.

use prometheus::IntCounterVec;

use telemetry::metrics;

metrics! {
    /// The admin listener.
    pub struct AdminMetrics {
        /// Requests that came with an admin token, by outcome. `accepted`, `refused`, or `limited` when the client had sent `admin.max_token_guesses` wrong ones within a minute.
        pub token_checks: IntCounterVec = "admin_token_checks_total"["outcome"];
    }
}
