//! What the drain waits for, by name: for the log, and for naming what was cut.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Names that one line of the log shows.
const SHOWN: usize = 8;

/// The tasks and streams that have not ended.
#[derive(Clone, Default)]
pub(crate) struct Work(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    next: u64,
    open: BTreeMap<u64, (&'static str, Cow<'static, str>)>,
    /// Those that ended since the board was watched.
    ended: Option<Vec<(Cow<'static, str>, Instant)>>,
}

/// One of them; ends when dropped.
pub(crate) struct Entry {
    work: Work,
    id: u64,
}

impl Work {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, kind: &'static str, name: Cow<'static, str>) -> Entry {
        let mut board = self.board();
        let id = board.next;
        board.next += 1;
        board.open.insert(id, (kind, name));
        drop(board);
        Entry {
            work: self.clone(),
            id,
        }
    }

    /// Remembers from now on what ends, and when.
    pub(crate) fn watch(&self) {
        self.board().ended = Some(Vec::new());
    }

    /// What ended since `began`, slowest first: `public listener 120 ms, cleanup 3 ms`.
    pub(crate) fn waited_for(&self, began: Instant) -> String {
        let mut ended = self.board().ended.take().unwrap_or_default();
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

    /// Kind and name of what has not ended.
    pub(crate) fn open(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        self.board().open.values().cloned().collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut board = self.work.board();
        let Some((_, name)) = board.open.remove(&self.id) else {
            return;
        };
        if let Some(ended) = &mut board.ended {
            ended.push((name, Instant::now()));
        }
    }
}
