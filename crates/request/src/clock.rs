//! The time of day, derived from the processor's counter.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use quanta::Instant;

/// The time of day, and the processor's counter. A request reads the time about six times, and the
/// operating system's clock costs several times as much as the counter. The clock is therefore read
/// ten times a second, and the counter is added in between.
#[must_use]
pub fn now() -> (SystemTime, Instant) {
    const COUNTED_ON: Duration = Duration::from_millis(100);
    thread_local! {
        static ASKED: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if let Some((time, at)) = ASKED.get() {
        let since = now - at;
        if since < COUNTED_ON {
            return (time + since, now);
        }
    }
    let asked = ask();
    ASKED.set(Some(asked));
    asked
}

fn ask() -> (SystemTime, Instant) {
    (settings::clock::system_time(), Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_goes_on() {
        let (began, _) = now();
        let mut last = began;
        for _ in 0..100 {
            let (time, _) = now();
            assert!(time >= last);
            last = time;
        }
        assert!(last > began);
    }
}
