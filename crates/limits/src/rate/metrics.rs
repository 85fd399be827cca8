//! Metrics of the rate limits.

use prometheus::{Histogram, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::metrics;
use telemetry::metrics::QUICK;

metrics! {
    /// Rate limits. `limiter` is `address`, `principal`, `auth` or `account`.
    pub struct RateLimitMetrics {
        /// Decisions of the rate limits. `decision` is `allowed` or `rejected`.
        pub decisions: IntCounterVec = "rate_limit_decisions_total"["limiter", "decision"];
        /// Keys in the table of this process. There are never more than `rate_limit.max_keys`.
        pub keys: IntGaugeVec = "rate_limit_keys"["limiter"];
        /// Whether the configured backend decides: 1 when it does, 0 while the local limiter
        /// decides instead.
        pub backend_up: IntGauge = "rate_limit_backend_up";
        /// Seconds that the shared backend took for a decision, or in which it made none.
        pub backend_seconds: Histogram = "rate_limit_backend_seconds", buckets QUICK;
        /// Failures of the backend after which the local limiter decided. `reason` is `slow`,
        /// `gone` or `refused`.
        pub backend_failures: IntCounterVec = "rate_limit_backend_failures_total"["reason"];
    }
}
