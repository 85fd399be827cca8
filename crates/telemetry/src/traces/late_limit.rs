//! Rate limit of late spans: in an outage every request causes one, which must not flood the
//! collector.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts within the current second.
pub(super) struct LateSpanLimit {
    began: Instant,
    per_second: u32,
    /// The current second since `began` (upper half) and its count (lower half).
    window: AtomicU64,
}

impl LateSpanLimit {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            began: Instant::now(),
            per_second,
            window: AtomicU64::new(0),
        }
    }

    /// Takes one of the permits of the current second. False if there is none.
    pub(super) fn take(&self) -> bool {
        self.take_in(self.began.elapsed().as_secs())
    }

    fn take_in(&self, second: u64) -> bool {
        let taken = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                let taken = if window >> 32 == second {
                    window & u64::from(u32::MAX)
                } else {
                    0
                };
                (taken < u64::from(self.per_second)).then_some((second << 32) | (taken + 1))
            });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_applies_to_each_second() {
        let bound = LateSpanLimit::new(2);
        let taken: Vec<bool> = [0, 0, 0, 5, 5, 5]
            .into_iter()
            .map(|second| bound.take_in(second))
            .collect();
        assert_eq!(taken, [true, true, false, true, true, false]);
        assert!(!LateSpanLimit::new(0).take());
    }
}
