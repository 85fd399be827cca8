//! Warm connections, which are passed from one query directly to the next.
//!
//! sqlx pings the server whenever a connection returns to its pool. This costs a round trip for
//! every query, and on SQLite two thread switches. A connection whose last query was answered
//! completely needs no ping, so it waits here for the next query instead of returning. It returns
//! to the pool if it is not used within [`TRUSTED_IDLE`], and after [`RECHECK`] in any case. The
//! idle timeout and lifetime of the pool therefore still apply.

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

/// Time that a connection is used without passing through the pool.
const RECHECK: Duration = Duration::from_secs(10);

/// The pool with its warm connections.
pub(crate) struct WarmPool<B: sqlx::Database> {
    pub(crate) pool: Pool<B>,
    /// One permit for each connection of the pool. Its holder finds a connection here or in the
    /// pool. Permits are given in the order of the requests.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle<B>>>,
    /// True while a task returns unused connections to the pool.
    cooling: AtomicBool,
    /// Decides which sessions are still trusted.
    pub(crate) renewal: Arc<Renewal>,
}

/// A connection between the pool and a query.
pub(crate) struct BorrowedConnection<B: sqlx::Database> {
    pub(crate) connection: PoolConnection<B>,
    /// Time at which the pool returned it.
    pub(crate) since: Instant,
}

struct Idle<B: sqlx::Database> {
    borrowed: BorrowedConnection<B>,
    since: Instant,
}

/// The right to one connection.
pub(crate) type ConnectionPermit = OwnedSemaphorePermit;

impl<B: sqlx::Database> WarmPool<B> {
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
    pub(crate) async fn acquire(
        &self,
    ) -> Result<(BorrowedConnection<B>, ConnectionPermit), sqlx::Error> {
        let bound = self.pool.options().get_acquire_timeout();
        let acquired = tokio::time::timeout(bound, async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
            let borrowed = if let Some(borrowed) = self.warmest() {
                borrowed
            } else {
                // Taken before the connection: a renewal in between then also covers this
                // connection.
                let since = Instant::now();
                // Boxed, because the future is large and seldom needed.
                let connection = Box::pin(self.pool.acquire()).await?;
                BorrowedConnection { connection, since }
            };
            Ok((borrowed, place))
        });
        acquired.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Takes the connection that was used last, unless it has waited for too long.
    fn warmest(&self) -> Option<BorrowedConnection<B>> {
        let mut idle = self.waiting();
        let last = idle.pop_if(|last| last.since.elapsed() < TRUSTED_IDLE)?;
        Some(last.borrowed)
    }

    /// Keeps a connection whose last answer was read completely.
    pub(crate) fn keep(self: &Arc<Self>, borrowed: BorrowedConnection<B>, place: ConnectionPermit) {
        if !self.renewal.trusts(borrowed.since) {
            let reason = self.renewal.reason();
            return discard(self, borrowed.connection, Some(place), reason);
        }
        let since = Instant::now();
        let fresh = since.duration_since(borrowed.since) < RECHECK;
        let refused = {
            let mut waiting = self.waiting();
            // Checked under the lock, so that no connection is added after `close` has emptied the
            // list.
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

    /// Returns unused connections to the pool until none is left.
    async fn cool_down(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TRUSTED_IDLE).await;
            for borrowed in self.cold(TRUSTED_IDLE) {
                background(give_back(borrowed.connection, Arc::clone(&self)));
            }
            if self.waiting().is_empty() {
                self.cooling.store(false, Ordering::Release);
                // A connection may have been added in between, when this task was still marked as
                // running.
                if self.waiting().is_empty() || self.cooling.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }
    }

    /// Removes the connections that have waited for at least `age`.
    fn cold(&self, age: Duration) -> Vec<BorrowedConnection<B>> {
        let mut idle = self.waiting();
        // Connections with the longest wait are at the front.
        let warm = idle.partition_point(|one| one.since.elapsed() >= age);
        idle.drain(..warm).map(|one| one.borrowed).collect()
    }

    /// Applies a fault to the other sessions. `since` is the time at which the failed session came
    /// out of the pool.
    pub(crate) fn failed(self: &Arc<Self>, since: Instant, reason: Reason) {
        self.renewal.failed(reason);
        match reason.others() {
            Others::Ask => {
                self.renewal.ask_older();
                for borrowed in self.cold(Duration::ZERO) {
                    background(give_back(borrowed.connection, Arc::clone(self)));
                }
            }
            // The renewal has handled the faults of sessions from before it.
            Others::Close if self.renewal.trusts(since) => self.renew(reason),
            Others::Keep | Others::Close => {}
        }
    }

    /// Closes every idle session. Sessions in use are closed when they return.
    pub(crate) fn renew(self: &Arc<Self>, reason: Reason) {
        self.renewal.close_older(reason);
        for borrowed in self.cold(Duration::ZERO) {
            discard(self, borrowed.connection, None, reason);
        }
    }

    /// Idle connections, here and in the pool.
    pub(crate) fn idle(&self) -> usize {
        self.waiting().len() + self.pool.num_idle()
    }

    /// Closes every connection as soon as it has returned.
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

/// Time for a connection to finish the work that its user left.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// Gives a connection back, or closes it when that takes longer than [`SETTLE`].
pub(crate) type Settle<B> = fn(PoolConnection<B>, Arc<WarmPool<B>>) -> BoxFuture<'static, ()>;

/// Returns a connection in a task. Its place becomes free when the task has ended.
pub(crate) fn settle<B: sqlx::Database>(
    how: Settle<B>,
    borrowed: BorrowedConnection<B>,
    place: ConnectionPermit,
    home: &Arc<WarmPool<B>>,
) {
    let home = Arc::clone(home);
    background(async move {
        how(borrowed.connection, home).await;
        drop(place);
    });
}

/// Closes and counts a connection in a task. Its place becomes free when the task has ended.
pub(crate) fn discard<B: sqlx::Database>(
    home: &WarmPool<B>,
    connection: PoolConnection<B>,
    place: Option<ConnectionPermit>,
    reason: Reason,
) {
    home.renewal.count(reason);
    background(async move {
        // This future owns the connection, so dropping it closes the socket.
        let _closed = timeout(SETTLE, connection.close()).await;
        drop(place);
    });
}

/// Runs the remaining work of a connection that has no user. The task is not tracked, like the
/// return in sqlx. Each such task has a time limit, and closing the pool waits for connections.
pub(crate) fn background(task: impl Future<Output = ()> + Send + 'static) {
    // Without a runtime the process is ending, which closes the socket.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(task);
    }
}

pub(crate) fn give_back<B: sqlx::Database>(
    mut connection: PoolConnection<B>,
    home: Arc<WarmPool<B>>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let since = Instant::now();
        // This future owns the connection from here on, so dropping it closes the socket.
        if timeout(SETTLE, connection.return_to_pool()).await.is_err() {
            home.renewal.count(Reason::Silent);
            home.failed(since, Reason::Silent);
            tracing::debug!("closed a connection that did not come back in time");
        }
    })
}
