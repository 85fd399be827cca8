//! Locks of idempotency keys, which running requests hold.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use request::idempotency::{Claim, IdempotencyKey};
use uuid::Uuid;

/// The locked keys. One process uses the file, so the locks may end with the process.
#[derive(Clone, Default)]
pub(super) struct KeyLocks(Arc<Mutex<HashSet<(Uuid, IdempotencyKey)>>>);

impl KeyLocks {
    /// Locks the key until the guard is dropped, however the transaction ends. Returns `None` if
    /// another request holds the lock.
    pub(super) fn try_lock(&self, claim: &Claim) -> Option<KeyLock> {
        let entry = (claim.user, claim.key.clone());
        let mut locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !locked.insert(entry.clone()) {
            return None;
        }
        Some(KeyLock {
            locks: self.clone(),
            entry,
        })
    }
}

/// The lock of one key, released when dropped.
pub(super) struct KeyLock {
    locks: KeyLocks,
    entry: (Uuid, IdempotencyKey),
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        let locked = &self.locks.0;
        locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.entry);
    }
}
