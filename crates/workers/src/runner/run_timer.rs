//! The time of the next run.

use std::time::Duration;

use super::run::Outcome;
use crate::{NextRun, Trigger};

/// The pause after the first failure. Each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The doubling ends at the worker's own pause, or at this time if the pause is shorter.
const LAST_RETRY: Duration = Duration::from_mins(1);

/// The pause before the next run of a worker.
pub(crate) struct RunTimer {
    pause: Duration,
    failures: u32,
    /// True if a notification may end the pause early. After a failure it may not.
    wakes_early: bool,
}

impl RunTimer {
    pub(crate) fn new(trigger: &Trigger) -> Self {
        Self {
            pause: pause_of(trigger).mul_f64(rand::random::<f64>() / 10.0),
            failures: 0,
            wakes_early: true,
        }
    }

    /// Sets the pause after a run.
    pub(crate) fn after_run(&mut self, outcome: Outcome, trigger: &Trigger) {
        self.wakes_early = outcome.is_good();
        self.failures = if outcome.is_good() {
            0
        } else {
            self.failures.saturating_add(1)
        };
        // Varied by a tenth, so that replicas do not run at the same time.
        let jitter = 0.9 + rand::random::<f64>() / 5.0;
        self.pause = match outcome {
            Outcome::Ok(NextRun::AtOnce) => Duration::ZERO,
            _ => self.pause_without_jitter(trigger).mul_f64(jitter),
        };
    }

    /// The pause without its jitter.
    fn pause_without_jitter(&self, trigger: &Trigger) -> Duration {
        let pause = pause_of(trigger);
        match self.failures.checked_sub(1) {
            None => pause,
            Some(doublings) => FIRST_RETRY
                .saturating_mul(1 << doublings.min(16))
                .min(pause.max(LAST_RETRY)),
        }
    }

    /// Waits until the next run.
    pub(crate) async fn next_run(&self, trigger: &Trigger) {
        let sleep = tokio::time::sleep(self.pause);
        match trigger {
            Trigger::Queue { wake, .. } if self.wakes_early => tokio::select! {
                () = sleep => {}
                () = wake.notified() => {}
            },
            _ => sleep.await,
        }
    }
}

fn pause_of(trigger: &Trigger) -> Duration {
    match trigger {
        Trigger::Interval(interval) => *interval,
        Trigger::Queue { poll, .. } => *poll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_pause_up_to_a_bound_and_a_success_ends_that() {
        let trigger = Trigger::Interval(Duration::from_mins(5));
        let mut timer = RunTimer::new(&trigger);
        let seconds = |timer: &RunTimer| timer.pause_without_jitter(&trigger).as_secs();
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            timer.after_run(Outcome::Failed, &trigger);
            assert_eq!(seconds(&timer), expected);
            let jittered =
                timer.pause.as_secs_f64() / timer.pause_without_jitter(&trigger).as_secs_f64();
            assert!((0.9..=1.1).contains(&jittered));
        }
        timer.after_run(Outcome::Ok(NextRun::AsScheduled), &trigger);
        assert_eq!(seconds(&timer), 300);
        timer.after_run(Outcome::Ok(NextRun::AtOnce), &trigger);
        assert_eq!(timer.pause, Duration::ZERO);
    }

    #[test]
    fn a_fast_worker_that_fails_slows_down() {
        let trigger = Trigger::Interval(Duration::from_millis(10));
        let mut timer = RunTimer::new(&trigger);
        for _ in 0..20 {
            timer.after_run(Outcome::Timeout, &trigger);
        }
        assert_eq!(timer.pause_without_jitter(&trigger), LAST_RETRY);
    }
}
