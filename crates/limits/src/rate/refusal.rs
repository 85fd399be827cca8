//! The refusal of a request by a rate limit.

use std::sync::Arc;
use std::time::Duration;

use request::Problem;
use request::problem::codes;

/// A refusal by a limiter.
#[derive(Debug, Clone, thiserror::Error)]
#[error("refused by the limiter {limiter} for {wait:?}")]
pub struct RateLimitExceeded {
    pub(crate) limiter: &'static str,
    pub(crate) policy: Arc<str>,
    pub(crate) wait: Duration,
}

impl From<RateLimitExceeded> for Problem {
    /// Rounds the wait up to seconds, so that a client that honours `Retry-After` is not refused
    /// again. tower_governor rounds it down.
    fn from(refusal: RateLimitExceeded) -> Self {
        let seconds = refusal.wait.as_secs() + 1;
        let state = format!("\"{}\";r=0;t={seconds}", refusal.limiter);
        Self::new(
            codes::RATE_LIMITED,
            "Too many requests; wait and try again.",
        )
        .retry_after(seconds)
        .metadata("ratelimit-policy", refusal.policy.to_string())
        .metadata("ratelimit", state)
    }
}
