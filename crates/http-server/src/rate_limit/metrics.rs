//! What the limits count.

use prometheus::{Histogram, IntCounterVec, IntGauge, IntGaugeVec};

use telemetry::metrics;
use telemetry::metrics::QUICK;

metrics! {
    /// Rate limits. `limiter` is `address`, `principal`, `auth` or `account`.
    pub struct RateLimitMetrics {
        /// Decisions: `allowed` or `rejected`.
        pub decisions: IntCounterVec = "rate_limit_decisions_total"["limiter", "decision"];
        /// Keys that this process remembers; never more than `rate_limit.max_keys`.
        pub keys: IntGaugeVec = "rate_limit_keys"["limiter"];
        /// 1 while the configured backend decides; 0 while the local limiter stands in for it.
        pub backend_up: IntGauge = "rate_limit_backend_up";
        /// Time that the shared backend took to decide, or in which it did not.
        pub backend_seconds: Histogram = "rate_limit_backend_seconds", buckets QUICK;
        /// Times that the local limiter had to stand in: the backend was too `slow`, `gone`, or `refused`.
        pub backend_failures: IntCounterVec = "rate_limit_backend_failures_total"["reason"];
    }
}
