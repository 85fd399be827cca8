//! A value of the running process that can be changed for a limited time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Lifecycle;
use settings::clock::SharedClock;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Applies a value, or returns the reason why it cannot be applied.
type Apply<T> = Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// Time that a value is in force, as text of the request and as duration.
#[derive(Debug, Clone)]
pub(crate) struct Ttl {
    pub(crate) text: String,
    pub(crate) time: Duration,
}

/// The value in force and the pending return.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SwitchState<T> {
    pub(crate) value: T,
    pub(crate) then: Option<ScheduledReturn<T>>,
}

/// The value that returns, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScheduledReturn<T> {
    pub(crate) value: T,
    pub(crate) ttl: String,
    pub(crate) at: OffsetDateTime,
    due: Instant,
}

/// A value that returns to its predecessor by itself if it is set with a time.
pub(crate) struct Revertible<T>(Arc<Inner<T>>);

struct Inner<T> {
    name: &'static str,
    apply: Apply<T>,
    clock: SharedClock,
    state: Mutex<SwitchState<T>>,
    changed: Notify,
}

impl<T> Clone for Revertible<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone + Send + 'static> Revertible<T> {
    /// Wraps a value that is in force already. `name` is the name of its task. The task ends when
    /// the process accepts no new work, so that a pending return does not delay the shutdown.
    pub(crate) fn new(
        name: &'static str,
        value: T,
        apply: Apply<T>,
        clock: SharedClock,
        lifecycle: &Lifecycle,
    ) -> Self {
        let own = Self(Arc::new(Inner {
            name,
            apply,
            clock,
            state: Mutex::new(SwitchState { value, then: None }),
            changed: Notify::new(),
        }));
        let (returning, stop) = (own.clone(), lifecycle.soft());
        lifecycle.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = returning.restore_when_due() => {}
            }
        });
        own
    }

    pub(crate) fn get(&self) -> SwitchState<T> {
        self.state().clone()
    }

    /// Applies a value, permanently or for a time. A pending return is replaced. The value that
    /// returns in the end is the one before the first temporary value.
    pub(crate) fn set(&self, value: T, ttl: Option<Ttl>) -> Result<SwitchState<T>, String> {
        self.set_at(Instant::now(), value, ttl)
    }

    fn set_at(&self, now: Instant, value: T, ttl: Option<Ttl>) -> Result<SwitchState<T>, String> {
        let mut state = self.state();
        (self.0.apply)(&value)?;
        let before = match state.then.take() {
            Some(pending) => pending.value,
            None => state.value.clone(),
        };
        *state = SwitchState {
            value,
            then: ttl.map(|ttl| ScheduledReturn {
                value: before,
                ttl: ttl.text,
                at: self.0.clock.now() + ttl.time,
                due: now + ttl.time,
            }),
        };
        self.0.changed.notify_one();
        Ok(state.clone())
    }

    async fn restore_when_due(&self) {
        loop {
            let due = self.state().then.as_ref().map(|then| then.due);
            let returning = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = returning => self.restore_if_due(Instant::now()),
            }
        }
    }

    fn restore_if_due(&self, now: Instant) {
        let mut state = self.state();
        // A new return may have been set since this one was due.
        let Some(then) = state.then.take_if(|then| then.due <= now) else {
            return;
        };
        if let Err(error) = (self.0.apply)(&then.value) {
            tracing::error!(
                task = self.0.name,
                error,
                "the previous value could not be restored"
            );
            return;
        }
        state.value = then.value;
    }

    fn state(&self) -> MutexGuard<'_, SwitchState<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifecycle::LifecycleMetrics;
    use settings::clock::SystemClock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A value with a time that the test sets.
    struct TestSwitch {
        value: Revertible<u32>,
        applied: Arc<AtomicU32>,
        now: Instant,
    }

    impl TestSwitch {
        fn new() -> Self {
            let registry = prometheus::Registry::new();
            let lifecycle = Lifecycle::new(LifecycleMetrics::register(&registry).unwrap());
            let applied = Arc::new(AtomicU32::new(1));
            let own = Arc::clone(&applied);
            let apply = Box::new(move |value: &u32| match value {
                13 => Err("unlucky".to_owned()),
                value => {
                    own.store(*value, Ordering::SeqCst);
                    Ok(())
                }
            });
            let clock = Arc::new(SystemClock);
            Self {
                value: Revertible::new("test", 1, apply, clock, &lifecycle),
                applied,
                now: Instant::now(),
            }
        }

        fn set(&self, value: u32, seconds: Option<u64>) -> Result<SwitchState<u32>, String> {
            let ttl = seconds.map(|seconds| Ttl {
                text: format!("{seconds}s"),
                time: Duration::from_secs(seconds),
            });
            self.value.set_at(self.now, value, ttl)
        }

        /// Moves the time forward. Returns the shown value, which must equal the applied one.
        fn after(&mut self, seconds: u64) -> u32 {
            self.now += Duration::from_secs(seconds);
            self.value.restore_if_due(self.now);
            let shown = self.value.get().value;
            assert_eq!(shown, self.applied.load(Ordering::SeqCst));
            shown
        }
    }

    #[tokio::test]
    async fn a_value_with_a_time_returns_and_one_without_stays() {
        let mut switch = TestSwitch::new();
        switch.set(2, Some(10)).unwrap();
        assert_eq!(switch.after(9), 2);
        assert_eq!(switch.after(1), 1);
        assert_eq!(switch.value.get().then, None);
        switch.set(3, None).unwrap();
        assert_eq!(switch.after(3_600), 3);
    }

    #[tokio::test]
    async fn overlapping_times_return_to_what_was_before_the_first() {
        let mut switch = TestSwitch::new();
        switch.set(2, Some(10)).unwrap();
        assert_eq!(switch.after(5), 2);
        let shown = switch.set(3, Some(20)).unwrap();
        assert_eq!(shown.then.map(|then| then.value), Some(1));
        assert_eq!(switch.after(10), 3, "the first return was replaced");
        assert_eq!(switch.after(10), 1);
        // A shorter time replaces a longer one.
        switch.set(4, Some(100)).unwrap();
        switch.set(5, Some(10)).unwrap();
        assert_eq!(switch.after(11), 1);
    }

    #[tokio::test]
    async fn a_lasting_value_cancels_a_pending_return() {
        let mut switch = TestSwitch::new();
        switch.set(2, Some(10)).unwrap();
        switch.set(3, None).unwrap();
        assert_eq!(switch.after(20), 3);
    }

    #[tokio::test]
    async fn a_refused_value_changes_nothing() {
        let mut switch = TestSwitch::new();
        switch.set(2, Some(10)).unwrap();
        assert_eq!(switch.set(13, Some(99)), Err("unlucky".to_owned()));
        assert_eq!(switch.after(9), 2);
        assert_eq!(switch.after(1), 1);
    }
}
