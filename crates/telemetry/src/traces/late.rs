//! How many spans a second may be exported after the fact: an outage makes every
//! request one, and must not flood the collector.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts within the present second.
pub(super) struct LateBound {
    began: Instant,
    per_second: u32,
    /// The second since `began` (upper half) and what was taken in it (lower half).
    window: AtomicU64,
}

impl LateBound {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            began: Instant::now(),
            per_second,
            window: AtomicU64::new(0),
        }
    }

    /// Takes a place in this second, if there is one.
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
    fn every_second_has_its_places() {
        let bound = LateBound::new(2);
        let taken: Vec<bool> = [0, 0, 0, 5, 5, 5]
            .into_iter()
            .map(|second| bound.take_in(second))
            .collect();
        assert_eq!(taken, [true, true, false, true, true, false]);
        assert!(!LateBound::new(0).take());
    }
}
