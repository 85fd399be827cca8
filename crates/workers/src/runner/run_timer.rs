//! The time of the next run.

use std::time::Duration;

use settings::backoff::{Backoff, jittered};

use super::run::Outcome;
use crate::{NextRun, Trigger};

/// The pause after the first failure. Each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The doubling ends at the worker's own pause, or at this time if the pause is shorter.
const LAST_RETRY: Duration = Duration::from_mins(1);
/// Replicas do not run at the same time.
const JITTER: f64 = 0.1;

/// The pause before the next run of a worker.
pub(crate) struct RunTimer {
    pause: Duration,
    retries: Backoff,
    /// True if a notification may end the pause early. After a failure it may not.
    wakes_early: bool,
}

impl RunTimer {
    pub(crate) fn new(trigger: &Trigger) -> Self {
        Self {
            pause: pause_of(trigger).mul_f64(rand::random::<f64>() / 10.0),
            retries: Backoff::new(FIRST_RETRY, pause_of(trigger).max(LAST_RETRY)),
            wakes_early: true,
        }
    }

    /// Sets the pause after a run.
    pub(crate) fn after_run(&mut self, outcome: Outcome, trigger: &Trigger) {
        self.wakes_early = outcome.is_good();
        if outcome.is_good() {
            self.retries.reset();
        }
        let pause = match outcome {
            Outcome::Ok(NextRun::AtOnce) => Duration::ZERO,
            outcome if outcome.is_good() => pause_of(trigger),
            _ => self.retries.next_pause(),
        };
        self.pause = jittered(pause, JITTER);
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
        let assert_pause = |timer: &RunTimer, seconds: f64| {
            let tenths = timer.pause.as_secs_f64() / seconds * 10.0;
            assert!(
                (9.0..=11.0).contains(&tenths),
                "{seconds} {:?}",
                timer.pause
            );
        };
        for expected in [
            1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0,
        ] {
            timer.after_run(Outcome::Failed, &trigger);
            assert_pause(&timer, expected);
        }
        timer.after_run(Outcome::Ok(NextRun::AsScheduled), &trigger);
        assert_pause(&timer, 300.0);
        timer.after_run(Outcome::Failed, &trigger);
        assert_pause(&timer, 1.0);
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
        assert!(timer.pause >= LAST_RETRY.mul_f64(0.9));
        assert!(timer.pause <= LAST_RETRY.mul_f64(1.1));
    }
}
