//! The named tasks and streams that the shutdown waits for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Number of names in one log line.
const SHOWN: usize = 8;

/// The running tasks and streams.
#[derive(Clone, Default)]
pub(crate) struct TaskRegistry(Arc<Mutex<RegistryState>>);

#[derive(Default)]
struct RegistryState {
    next: u64,
    open: BTreeMap<u64, (&'static str, Cow<'static, str>)>,
    /// Entries that ended since [`TaskRegistry::record`].
    ended: Option<Vec<(Cow<'static, str>, Instant)>>,
}

/// Registration of one task or stream. Dropping it ends the entry.
pub(crate) struct TaskGuard {
    registry: TaskRegistry,
    id: u64,
}

impl TaskRegistry {
    fn state(&self) -> MutexGuard<'_, RegistryState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(&self, kind: &'static str, name: Cow<'static, str>) -> TaskGuard {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, (kind, name));
        drop(state);
        TaskGuard {
            registry: self.clone(),
            id,
        }
    }

    /// Starts recording the entries that end, with their times.
    pub(crate) fn record(&self) {
        self.state().ended = Some(Vec::new());
    }

    /// Entries that ended since `began`, slowest first: `public listener 120 ms, cleanup 3 ms`.
    pub(crate) fn waited_for(&self, began: Instant) -> String {
        let mut ended = self.state().ended.take().unwrap_or_default();
        ended.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        let mut text = String::new();
        for (index, (name, at)) in ended.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let waited = at.saturating_duration_since(began).as_millis();
            let _infallible = write!(text, "{separator}{name} {waited} ms");
        }
        if ended.len() > SHOWN {
            let _infallible = write!(text, " and {} more", ended.len() - SHOWN);
        }
        text
    }

    /// Kind and name of the running entries.
    pub(crate) fn open(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        self.state().open.values().cloned().collect()
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        let Some((_, name)) = state.open.remove(&self.id) else {
            return;
        };
        if let Some(ended) = &mut state.ended {
            ended.push((name, Instant::now()));
        }
    }
}
