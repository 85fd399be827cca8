//! Keeps the service standing: shedding, the deadline, panics, rate limits.

mod config;
mod guard;
mod keys;
mod limit;
mod limiting;
mod metrics;
mod shared;

pub use config::{Config, LimitBackend};
pub use guard::{Guard, GuardLayer};
pub use limit::{Limit, Limits};
pub use metrics::RateLimitMetrics;
