//! Metrics of the database.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use telemetry::metrics;
use telemetry::metrics::QUICK;

metrics! {
    /// The database as this process sees it.
    pub struct DbMetrics {
        /// Seconds that a store's method took, waiting for a connection included.
        pub query_duration: HistogramVec = "db_query_duration_seconds"["query_type"], buckets QUICK;
        /// Connections in use.
        pub active: IntGauge = "db_connections_active";
        /// Open connections that nobody uses.
        pub idle: IntGauge = "db_connections_idle";
        /// Connections at most (`database.max_connections`).
        pub max: IntGauge = "db_connections_max";
        /// Waits for a connection that ended with `database.acquire_timeout`.
        pub pool_timeouts: IntCounter = "db_pool_timeouts_total";
        /// Connections closed before their time, because of what their last query met.
        /// `lost`, `refused`, `read_only`, `resources`, `storage`, `corrupt`, `stale_plan`, `state`, `silent`.
        pub discarded: IntCounterVec = "db_connections_discarded_total"["reason"];
        /// Seconds that a query waited for a connection.
        pub pool_wait: Histogram = "db_pool_wait_seconds", buckets QUICK;
    }
}
