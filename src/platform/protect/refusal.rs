//! The answer to what comes too soon.

use std::sync::Arc;
use std::time::Duration;

use request::Problem;
use request::problem::codes;

/// A limiter's refusal.
#[derive(Debug, Clone, thiserror::Error)]
#[error("refused by the limiter {limiter} for {wait:?}")]
pub struct TooSoon {
    pub(super) limiter: &'static str,
    pub(super) policy: Arc<str>,
    pub(super) wait: Duration,
}

impl From<TooSoon> for Problem {
    /// tower_governor cuts the wait down to seconds. It is rounded up here, so that a
    /// client that honours `Retry-After` is not refused again.
    fn from(refusal: TooSoon) -> Self {
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
