//! Warm connections: given from one query straight to the next.
//!
//! sqlx asks the server for a sign of life whenever a connection comes back to its
//! pool, which is a round trip for every query, and on SQLite two switches of threads.
//! A connection whose last query was answered to the end has just given that sign. So
//! it waits here for the next query, for a moment, instead of going back. One that is
//! not wanted within [`TRUSTED_IDLE`] goes back to the pool, and so does each after
//! [`RECHECK`], so that the pool's idle time and life apply as ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::Pool;
use sqlx::pool::PoolConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::connect::TRUSTED_IDLE;
use crate::fault::{Others, Reason};
use crate::renewal::Renewal;

/// How long a connection is used without going through the pool.
const RECHECK: Duration = Duration::from_secs(10);

/// The pool, with the warm connections before it.
pub(crate) struct Warm<B: sqlx::Database> {
    pub(crate) pool: Pool<B>,
    /// As many as the pool has connections. Who has one finds a connection here or in
    /// the pool; first come, first served.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle<B>>>,
    /// A task takes back what nobody wants.
    cooling: AtomicBool,
    /// Which sessions are still trusted.
    pub(crate) renewal: Arc<Renewal>,
}

/// A connection on its way from the pool to a query and back.
pub(crate) struct Borrowed<B: sqlx::Database> {
    pub(crate) connection: PoolConnection<B>,
    /// When it came out of the pool.
    pub(crate) since: Instant,
}

struct Idle<B: sqlx::Database> {
    borrowed: Borrowed<B>,
    since: Instant,
}

/// The right to one connection.
pub(crate) type Place = OwnedSemaphorePermit;

impl<B: sqlx::Database> Warm<B> {
    pub(crate) fn new(pool: Pool<B>, renewal: Arc<Renewal>) -> Arc<Self> {
        let size = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        Arc::new(Self {
            pool,
            places: Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            cooling: AtomicBool::new(false),
            renewal,
        })
    }

    /// A connection with its place, as soon as one is free.
    pub(crate) async fn acquire(&self) -> Result<(Borrowed<B>, Place), sqlx::Error> {
        let bound = self.pool.options().get_acquire_timeout();
        let acquired = tokio::time::timeout(bound, async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
            let borrowed = if let Some(borrowed) = self.warmest() {
                borrowed
            } else {
                // Before: a renewal in between distrusts this one as well.
                let since = Instant::now();
                // Boxed: the future is large, and seldom needed.
                let connection = Box::pin(self.pool.acquire()).await?;
                Borrowed { connection, since }
            };
            Ok((borrowed, place))
        });
        acquired.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// The one that was used last, unless it has waited for too long already.
    fn warmest(&self) -> Option<Borrowed<B>> {
        let mut idle = self.waiting();
        let last = idle.pop_if(|last| last.since.elapsed() < TRUSTED_IDLE)?;
        Some(last.borrowed)
    }

    /// Takes a connection that is at rest: its last answer was read to the end.
    pub(crate) fn keep(self: &Arc<Self>, borrowed: Borrowed<B>, place: Place) {
        if !self.renewal.trusts(borrowed.since) {
            let reason = self.renewal.reason();
            return discard(self, borrowed.connection, Some(place), reason);
        }
        let since = Instant::now();
        let fresh = since.duration_since(borrowed.since) < RECHECK;
        let refused = {
            let mut waiting = self.waiting();
            // Asked under the lock: nothing comes in behind the back of `close`.
            if fresh && !self.places.is_closed() {
                waiting.push(Idle { borrowed, since });
                None
            } else {
                Some(borrowed)
            }
        };
        if let Some(borrowed) = refused {
            return settle(give_back, borrowed, place, self);
        }
        drop(place);
        if !self.cooling.swap(true, Ordering::AcqRel) {
            background(Arc::clone(self).cool_down());
        }
    }

    /// Gives back to the pool what nobody has wanted, until nothing is left.
    async fn cool_down(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TRUSTED_IDLE).await;
            for borrowed in self.cold(TRUSTED_IDLE) {
                background(give_back(borrowed.connection, Arc::clone(&self)));
            }
            if self.waiting().is_empty() {
                self.cooling.store(false, Ordering::Release);
                // One may have come in between, and seen that this task still runs.
                if self.waiting().is_empty() || self.cooling.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }
    }

    /// Takes out those that have waited for so long.
    fn cold(&self, age: Duration) -> Vec<Borrowed<B>> {
        let mut idle = self.waiting();
        // The coldest are at the front.
        let warm = idle.partition_point(|one| one.since.elapsed() >= age);
        idle.drain(..warm).map(|one| one.borrowed).collect()
    }

    /// Takes the consequence for the others when a session that came out of the pool at
    /// `since` has failed.
    pub(crate) fn failed(self: &Arc<Self>, since: Instant, reason: Reason) {
        self.renewal.failed(reason);
        match reason.others() {
            Others::Ask => {
                self.renewal.ask_older();
                for borrowed in self.cold(Duration::ZERO) {
                    background(give_back(borrowed.connection, Arc::clone(self)));
                }
            }
            // What an old session says of the time before a renewal is known.
            Others::Close if self.renewal.trusts(since) => self.renew(reason),
            Others::Keep | Others::Close => {}
        }
    }

    /// Closes every session that is idle now; those in use follow when they come back.
    pub(crate) fn renew(self: &Arc<Self>, reason: Reason) {
        self.renewal.close_older(reason);
        for borrowed in self.cold(Duration::ZERO) {
            discard(self, borrowed.connection, None, reason);
        }
    }

    /// Connections that nobody uses, here and in the pool.
    pub(crate) fn idle(&self) -> usize {
        self.waiting().len() + self.pool.num_idle()
    }

    /// Closes every connection, once it is back.
    pub(crate) async fn close(&self) {
        self.places.close();
        for borrowed in self.cold(Duration::ZERO) {
            drop(borrowed);
        }
        self.pool.close().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Idle<B>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a connection may take to finish what its user has left behind.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// Gives a connection back, or closes it when that takes longer than [`SETTLE`].
pub(crate) type Settle<B> = fn(PoolConnection<B>, Arc<Warm<B>>) -> BoxFuture<'static, ()>;

/// Gives a connection back in a task; its place is free when that has ended.
pub(crate) fn settle<B: sqlx::Database>(
    how: Settle<B>,
    borrowed: Borrowed<B>,
    place: Place,
    home: &Arc<Warm<B>>,
) {
    let home = Arc::clone(home);
    background(async move {
        how(borrowed.connection, home).await;
        drop(place);
    });
}

/// Closes a connection in a task, and counts it; its place is free when that has ended.
pub(crate) fn discard<B: sqlx::Database>(
    home: &Warm<B>,
    connection: PoolConnection<B>,
    place: Option<Place>,
    reason: Reason,
) {
    home.renewal.count(reason);
    background(async move {
        // The connection is this future's: dropped means closed.
        let _closed = timeout(SETTLE, connection.close()).await;
        drop(place);
    });
}

/// Runs what a connection still has to do when nobody waits for it. Untracked, as sqlx's
/// own return is: each such task is bounded, and closing the pool waits for connections.
pub(crate) fn background(task: impl Future<Output = ()> + Send + 'static) {
    // Without a runtime the process is ending, and the socket with it.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(task);
    }
}

pub(crate) fn give_back<B: sqlx::Database>(
    mut connection: PoolConnection<B>,
    home: Arc<Warm<B>>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let since = Instant::now();
        // The connection is this future's from here on: dropped means closed.
        if timeout(SETTLE, connection.return_to_pool()).await.is_err() {
            home.renewal.count(Reason::Silent);
            home.failed(since, Reason::Silent);
            tracing::debug!("closed a connection that did not come back in time");
        }
    })
}
