//! The idempotency keys of running requests.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::app::ledger::domain::{Claim, IdempotencyKey};

/// The keys of the requests that run in this process. One process uses the file, so the set may end
/// with it.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashSet<(Uuid, IdempotencyKey)>>>);

impl Running {
    /// Holds the key until the guard is dropped, however the transaction ends. Returns `None` if
    /// another request holds the key.
    pub(super) fn enter(&self, claim: &Claim) -> Option<RunningGuard> {
        let entry = (claim.user, claim.key.clone());
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.insert(entry.clone()) {
            return None;
        }
        Some(RunningGuard {
            running: self.clone(),
            entry,
        })
    }
}

/// Releases its key when dropped.
pub(super) struct RunningGuard {
    running: Running,
    entry: (Uuid, IdempotencyKey),
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        let running = &self.running.0;
        running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.entry);
    }
}
