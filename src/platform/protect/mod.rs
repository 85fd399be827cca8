//! Keeps the service standing: shedding, the deadline, panics, rate limits.

mod arrival;
mod config;
mod guard;
mod keys;
mod limit;
mod limiting;
mod metrics;
mod places;
mod refusal;
mod shared;

pub use config::{Config, LimitBackend};
pub use guard::{Guard, GuardLayer};
pub use keys::Key;
pub use limit::{Limit, Limits};
pub use metrics::RateLimitMetrics;
pub use places::{Full, PlaceLimits};
pub use refusal::TooSoon;
