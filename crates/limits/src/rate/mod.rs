//! Rate limits: GCRA by client address, principal and account, in this process or
//! shared among replicas.

mod config;
mod keys;
mod limit;
mod metrics;
mod refusal;
mod shared;

pub use config::{Config, LimitBackend};
pub use keys::LimitKey;
pub use limit::{KeyedLimiter, RateLimit, RateLimits};
pub use metrics::RateLimitMetrics;
pub use refusal::RateLimitExceeded;
