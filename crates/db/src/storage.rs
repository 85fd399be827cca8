//! State of the file check of SQLite that outlives one run of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// State of the file, shared by all runs of the check.
#[derive(Default)]
pub(crate) struct File(Mutex<Known>);

#[derive(Default)]
pub(crate) struct Known {
    /// Device and inode. Another file under the same name is another database.
    pub(crate) identity: Option<(u64, u64)>,
    /// Time of the last successful write, and the number of failed sessions at that time.
    pub(crate) written: Option<(Instant, u64)>,
    /// Result of the inspection that runs on damaged data.
    pub(crate) inspection: Option<oneshot::Receiver<bool>>,
}

impl File {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
