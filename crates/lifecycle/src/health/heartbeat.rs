//! The runtime's own heartbeat: a task that notes that it got its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::process::Lifecycle;

const INTERVAL: Duration = Duration::from_millis(500);
/// Beyond this the runtime is stuck rather than busy: every thread of it blocked, or
/// its timers dead. What is left of it may still answer this question.
const TOO_OLD: Duration = Duration::from_secs(10);

/// When the runtime last got round to a small thing.
#[derive(Clone)]
pub struct Heartbeat {
    born: Instant,
    /// Milliseconds from `born` to the last beat.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            last: Arc::default(),
        }
    }
}

impl Heartbeat {
    /// Beats for as long as there is a runtime: neither a drain nor a slow flush of
    /// telemetry is a reason to be dead.
    pub(crate) fn start(&self, lifecycle: &Lifecycle) {
        let heart = self.clone();
        lifecycle.accompany("heartbeat", CancellationToken::new(), async move {
            loop {
                heart.beat();
                tokio::time::sleep(INTERVAL).await;
            }
        });
    }

    fn beat(&self) {
        self.last.store(self.age_of_process(), Ordering::Release);
    }

    fn age_of_process(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the last beat is young enough.
    #[must_use]
    pub fn beats(&self) -> bool {
        let last = self.last.load(Ordering::Acquire);
        let age = Duration::from_millis(self.age_of_process().saturating_sub(last));
        age < TOO_OLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_beat_is_none_until_the_next() {
        let heart = Heartbeat {
            born: Instant::now()
                .checked_sub(TOO_OLD + Duration::from_secs(1))
                .unwrap(),
            ..Heartbeat::default()
        };
        assert!(!heart.beats());
        heart.beat();
        assert!(heart.beats());
    }
}
