//! The state of the check of SQLite's file, which outlives one run of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// What the check knows of the file.
#[derive(Default)]
pub(crate) struct File(Mutex<Known>);

#[derive(Default)]
pub(crate) struct Known {
    /// Device and inode: another file under the name is another database.
    pub(crate) identity: Option<(u64, u64)>,
    /// When the last write succeeded, and how many sessions had failed by then.
    pub(crate) written: Option<(Instant, u64)>,
    /// Looks whether damaged data is whole again.
    pub(crate) inspection: Option<oneshot::Receiver<bool>>,
}

impl File {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
