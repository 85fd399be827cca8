//! Rate limits: GCRA by client address, principal and account, in this process or
//! shared among replicas.

mod config;
mod keys;
mod layer;
mod limit;
mod metrics;
mod refusal;
mod shared;

pub use config::{Config, LimitBackend};
pub use keys::LimitKey;
pub use limit::{Limit, Limits};
pub use metrics::RateLimitMetrics;
pub use refusal::TooSoon;
