//! Turns of transfers by account, taken before a connection.
//!
//! Postgres runs transfers of one account in sequence because of the row lock. Transfers that wait
//! for the lock each keep a connection. One busy account would thus take the whole pool. Every
//! transfer that ends would also wake a queue that grows with the pool.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::app::ledger::domain::{Order, Source};

/// Number of stripes. Accounts share them by hash.
const STRIPES: usize = 1_024;
/// Limit of concurrent transfers of one account in the database. One runs while the others hide the
/// network time of their statements.
const AT_ONCE: usize = 4;

/// The transfers of this process that are in the database.
#[derive(Clone)]
pub(super) struct Turns {
    stripes: Arc<[Semaphore]>,
    hash: RandomState,
}

/// A turn of both accounts. It ends when it is dropped.
pub(super) struct Turn<'a> {
    _first: Option<SemaphorePermit<'a>>,
    _second: Option<SemaphorePermit<'a>>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Semaphore::new(AT_ONCE)).collect(),
            hash: RandomState::new(),
        }
    }

    fn stripe(&self, account: Uuid) -> usize {
        // The value is below 1,024 and fits on every platform.
        usize::try_from(self.hash.hash_one(account) % STRIPES as u64).unwrap_or_default()
    }

    /// Waits for a turn of both accounts, in the order of arrival. Stripes are taken in ascending
    /// order, so that transfers cannot deadlock. The caller has the deadline.
    pub(super) async fn take(&self, order: &Order) -> Turn<'_> {
        let source = match order.source {
            Source::Own { account, .. } => account,
            // There is one system account for each currency. All deposits share a stripe.
            Source::System => Uuid::nil(),
        };
        let (one, other) = (self.stripe(source), self.stripe(order.to_account));
        let (low, high) = (one.min(other), one.max(other));
        let first = self.permit(low).await;
        // Two transfers that take two places of one stripe could wait for each other.
        let second = if low == high {
            None
        } else {
            self.permit(high).await
        };
        Turn {
            _first: first,
            _second: second,
        }
    }

    async fn permit(&self, stripe: usize) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.stripes.get(stripe)?.acquire().await.ok()
    }
}
