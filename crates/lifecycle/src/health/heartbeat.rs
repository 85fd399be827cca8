//! The heartbeat of the runtime: a task that records when it last ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::process::Lifecycle;

const INTERVAL: Duration = Duration::from_millis(500);
/// Limit of a busy runtime. An older heartbeat means that all its threads are blocked or its timers
/// have stopped.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The time at which the runtime last ran a trivial task.
#[derive(Clone)]
pub struct Heartbeat {
    born: Instant,
    /// Milliseconds from `born` to the last heartbeat.
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
    /// Runs until the runtime ends: neither a drain nor a slow flush of telemetry may fail the
    /// liveness probe.
    pub(crate) fn start(&self, lifecycle: &Lifecycle) {
        let heartbeat = self.clone();
        lifecycle.spawn_until("heartbeat", CancellationToken::new(), async move {
            loop {
                heartbeat.beat();
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

    /// Whether the last heartbeat is recent.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        let last = self.last.load(Ordering::Acquire);
        let age = Duration::from_millis(self.age_of_process().saturating_sub(last));
        age < MAX_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_heartbeat_is_not_recent_until_the_next_one() {
        let heartbeat = Heartbeat {
            born: Instant::now()
                .checked_sub(MAX_AGE + Duration::from_secs(1))
                .unwrap(),
            ..Heartbeat::default()
        };
        assert!(!heartbeat.is_recent());
        heartbeat.beat();
        assert!(heartbeat.is_recent());
    }
}
