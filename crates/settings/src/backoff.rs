//! Pauses between attempts, each twice as long as the one before.
//!
//! The jitter of the `backon` crate lengthens a pause to up to twice the limit. Here a limit holds
//! within the jitter that the caller chooses.

use std::time::Duration;

/// Pauses that double from the first one up to the longest.
///
/// ```
/// use std::time::Duration;
///
/// use settings::backoff::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
/// let seconds: Vec<_> = (0..4).map(|_| backoff.next_pause().as_secs()).collect();
/// assert_eq!(seconds, [1, 2, 3, 3]);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`. If `longest` is shorter, all pauses have that length.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = first.min(longest);
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause
    }

    /// Starts with the first pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Lengthens or shortens a pause by up to `share` of it, so that replicas that fail at the same
/// moment do not try again at the same moment. `share` is between 0 and 1.
#[must_use]
pub fn jittered(pause: Duration, share: f64) -> Duration {
    pause.mul_f64(1.0 + rand::random_range(-share..=share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut millis = || backoff.next_pause().as_millis();
        assert_eq!(
            [(); 7].map(|()| millis()),
            [100, 200, 400, 800, 1_600, 2_000, 2_000]
        );
        backoff.reset();
        assert_eq!(backoff.next_pause(), Duration::from_millis(100));
    }

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let mut short = Backoff::new(Duration::from_secs(5), Duration::from_secs(1));
        assert_eq!(short.next_pause(), Duration::from_secs(1));
        let mut long = Backoff::new(Duration::from_secs(u64::MAX), Duration::MAX);
        long.next_pause();
        assert_eq!(long.next_pause(), Duration::MAX);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let pauses: Vec<_> = (0..1_000)
            .map(|_| jittered(Duration::from_secs(100), 0.25).as_secs_f64())
            .collect();
        assert!(pauses.iter().all(|pause| (75.0..=125.0).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause < 80.0));
        assert!(pauses.iter().any(|pause| *pause > 120.0));
    }
}
