//! State of the file check of SQLite that outlives one run of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// State of the file, shared by all runs of the check.
#[derive(Default)]
pub(crate) struct FileState(Mutex<FileCheck>);

#[derive(Default)]
pub(crate) struct FileCheck {
    /// Device and inode. Another file under the same name is another database.
    pub(crate) identity: Option<(u64, u64)>,
    /// Time of the last successful write, and the number of failed sessions at that time.
    pub(crate) written: Option<(Instant, u64)>,
    /// Result of the integrity check that runs on damaged data.
    pub(crate) integrity_check: Option<oneshot::Receiver<bool>>,
}

impl FileState {
    pub(crate) fn lock(&self) -> MutexGuard<'_, FileCheck> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
