//! Metrics of the database.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use telemetry::metrics;
use telemetry::metrics::QUICK;

metrics! {
    /// The database, as seen from this process.
    pub struct DbMetrics {
        /// Duration of a store's method in seconds, including the wait for a connection.
        pub query_duration: HistogramVec = "db_query_duration_seconds"["query_type"], buckets QUICK;
        /// Connections in use.
        pub active: IntGauge = "db_connections_active";
        /// Idle connections in the pool.
        pub idle: IntGauge = "db_connections_idle";
        /// Limit of connections (`database.max_connections`).
        pub max: IntGauge = "db_connections_max";
        /// Waits for a connection that reached `database.acquire_timeout`.
        pub pool_timeouts: IntCounter = "db_pool_timeouts_total";
        /// Connections that were closed early because of a fault in their last query. The reasons
        /// are `lost`, `refused`, `read_only`, `resources`, `storage`, `corrupt`, `stale_plan`,
        /// `state` and `silent`.
        pub discarded: IntCounterVec = "db_connections_discarded_total"["reason"];
        /// Wait of a query for a connection, in seconds.
        pub pool_wait: Histogram = "db_pool_wait_seconds", buckets QUICK;
    }
}
