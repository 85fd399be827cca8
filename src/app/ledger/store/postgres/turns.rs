//! Transfers of one account take turns before they take a connection.
//!
//! Postgres makes them one after the other anyway, by the row's lock. Those that wait
//! there each keep a connection: one busy account would take the whole pool from all
//! others, and every transfer that ends wakes a longer queue the larger the pool is.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::app::ledger::domain::{Order, Source};

/// Accounts share these, by hash.
const STRIPES: usize = 1_024;
/// Transfers of one account that are at the database at a time. One works while the
/// others hide the time that their statements take on the way.
const AT_ONCE: usize = 4;

/// Who is at the database, of this process.
#[derive(Clone)]
pub(super) struct Turns {
    stripes: Arc<[Semaphore]>,
    hash: RandomState,
}

/// Ends when it is dropped.
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
        // Below 1,024: it fits, whatever the platform.
        usize::try_from(self.hash.hash_one(account) % STRIPES as u64).unwrap_or_default()
    }

    /// Waits for a turn of both accounts, first come, first served. In the order of the
    /// stripes, so that nobody waits in a circle. The caller has the deadline.
    pub(super) async fn take(&self, order: &Order) -> Turn<'_> {
        let source = match order.source {
            Source::Own { account, .. } => account,
            // One account a currency; deposits share a stripe.
            Source::System => Uuid::nil(),
        };
        let (one, other) = (self.stripe(source), self.stripe(order.to_account));
        let (low, high) = (one.min(other), one.max(other));
        let first = self.permit(low).await;
        // Two places of one stripe, taken one by one, could wait for each other.
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
        // Never closed.
        self.stripes.get(stripe)?.acquire().await.ok()
    }
}
