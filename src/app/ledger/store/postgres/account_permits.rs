//! Limits concurrent transfers of one account. A permit is taken before a connection.
//!
//! Postgres runs transfers of one account in sequence because of the row lock. Transfers that wait
//! for the lock each keep a connection. One busy account would thus take the whole pool. Every
//! transfer that ends would also wake a queue that grows with the pool.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::app::ledger::domain::{Order, Source};

/// Number of semaphores. Accounts share them by hash.
const STRIPES: usize = 1_024;
/// Limit of concurrent transfers of one account in the database. One runs while the others hide the
/// network time of their statements.
const PERMITS: usize = 4;

/// The semaphores of all accounts, which limit the transfers that this process has in the database.
#[derive(Clone)]
pub(super) struct AccountSemaphores {
    stripes: Arc<[Semaphore]>,
    hash: RandomState,
}

/// A permit of both accounts of a transfer, returned when dropped.
pub(super) struct AccountPermits<'a> {
    _low: Option<SemaphorePermit<'a>>,
    _high: Option<SemaphorePermit<'a>>,
}

impl AccountSemaphores {
    pub(super) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Semaphore::new(PERMITS)).collect(),
            hash: RandomState::new(),
        }
    }

    fn stripe(&self, account: Uuid) -> usize {
        // The value is below 1,024 and fits on every platform.
        usize::try_from(self.hash.hash_one(account) % STRIPES as u64).unwrap_or_default()
    }

    /// Waits for a permit of both accounts, in the order of arrival. Stripes are taken in ascending
    /// order, so that transfers cannot deadlock. The caller has the deadline.
    pub(super) async fn acquire(&self, order: &Order) -> AccountPermits<'_> {
        let source = match order.source {
            Source::Own { account, .. } => account,
            // There is one system account for each currency. All deposits share a stripe.
            Source::System => Uuid::nil(),
        };
        let (from, to) = (self.stripe(source), self.stripe(order.to_account));
        let (low, high) = (from.min(to), from.max(to));
        let low_permit = self.permit(low).await;
        // Two transfers that take two permits of one stripe could wait for each other.
        let high_permit = if low == high {
            None
        } else {
            self.permit(high).await
        };
        AccountPermits {
            _low: low_permit,
            _high: high_permit,
        }
    }

    async fn permit(&self, stripe: usize) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.stripes.get(stripe)?.acquire().await.ok()
    }
}
