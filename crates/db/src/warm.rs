//! Warm connections, which are passed from one query directly to the next.
//!
//! sqlx pings the server whenever a connection returns to its pool. This costs a round trip for
//! every query, and on SQLite two thread switches. A connection whose last query was answered
//! completely needs no ping, so it waits here for the next query instead of returning. It returns
//! to the pool if it is not used within [`PING_AFTER_IDLE`], and after [`RECHECK`] in any case. The
//! idle timeout and lifetime of the pool therefore still apply.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::Pool;
use sqlx::pool::PoolConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::connect::PING_AFTER_IDLE;
use crate::fault::{DiscardReason, OtherSessions};
use crate::session_renewal::SessionRenewal;

/// Time that a connection is used without passing through the pool.
const RECHECK: Duration = Duration::from_secs(10);

/// The pool with its warm connections.
pub(crate) struct WarmPool<B: sqlx::Database> {
    pub(crate) pool: Pool<B>,
    /// One permit for each connection of the pool. Its holder finds a connection here or in the
    /// pool. Permits are given in the order of the requests.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<IdleConnection<B>>>,
    /// True while a task returns unused connections to the pool.
    is_returning: AtomicBool,
    /// Decides which sessions are closed or pinged before their next use.
    pub(crate) renewal: Arc<SessionRenewal>,
}

/// A connection between the pool and a query.
pub(crate) struct BorrowedConnection<B: sqlx::Database> {
    pub(crate) connection: PoolConnection<B>,
    /// Time at which the pool handed it out.
    pub(crate) acquired_at: Instant,
}

struct IdleConnection<B: sqlx::Database> {
    borrowed: BorrowedConnection<B>,
    idle_since: Instant,
}

/// The right to one connection.
pub(crate) type ConnectionPermit = OwnedSemaphorePermit;

impl<B: sqlx::Database> WarmPool<B> {
    pub(crate) fn new(pool: Pool<B>, renewal: Arc<SessionRenewal>) -> Arc<Self> {
        let size = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        Arc::new(Self {
            pool,
            permits: Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            is_returning: AtomicBool::new(false),
            renewal,
        })
    }

    /// A connection with its permit, as soon as one is free.
    pub(crate) async fn acquire(
        &self,
    ) -> Result<(BorrowedConnection<B>, ConnectionPermit), sqlx::Error> {
        let bound = self.pool.options().get_acquire_timeout();
        let acquired = tokio::time::timeout(bound, async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
            let borrowed = if let Some(borrowed) = self.take_last_used() {
                borrowed
            } else {
                // Taken before the connection: a renewal in between then also covers this
                // connection.
                let acquired_at = Instant::now();
                // Boxed, because the future is large and seldom needed.
                let connection = Box::pin(self.pool.acquire()).await?;
                BorrowedConnection {
                    connection,
                    acquired_at,
                }
            };
            Ok((borrowed, permit))
        });
        acquired.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Takes the connection that was used last, unless it has waited for too long.
    fn take_last_used(&self) -> Option<BorrowedConnection<B>> {
        let mut idle = self.idle_connections();
        let last = idle.pop_if(|last| last.idle_since.elapsed() < PING_AFTER_IDLE)?;
        Some(last.borrowed)
    }

    /// Keeps a connection whose last answer was read completely.
    pub(crate) fn keep(
        self: &Arc<Self>,
        borrowed: BorrowedConnection<B>,
        permit: ConnectionPermit,
    ) {
        if !self.renewal.is_valid(borrowed.acquired_at) {
            let reason = self.renewal.reason();
            return discard(self, borrowed.connection, Some(permit), reason);
        }
        let idle_since = Instant::now();
        let fresh = idle_since.duration_since(borrowed.acquired_at) < RECHECK;
        let refused = {
            let mut waiting = self.idle_connections();
            // Checked under the lock, so that no connection is added after `close` has emptied the
            // list.
            if fresh && !self.permits.is_closed() {
                waiting.push(IdleConnection {
                    borrowed,
                    idle_since,
                });
                None
            } else {
                Some(borrowed)
            }
        };
        if let Some(borrowed) = refused {
            return return_in_background(return_to_pool, borrowed, permit, self);
        }
        drop(permit);
        if !self.is_returning.swap(true, Ordering::AcqRel) {
            background(Arc::clone(self).return_unused());
        }
    }

    /// Returns unused connections to the pool until none is left.
    async fn return_unused(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PING_AFTER_IDLE).await;
            for borrowed in self.take_idle_for(PING_AFTER_IDLE) {
                background(return_to_pool(borrowed.connection, Arc::clone(&self)));
            }
            if self.idle_connections().is_empty() {
                self.is_returning.store(false, Ordering::Release);
                // A connection may have been added in between, when this task was still marked as
                // running.
                if self.idle_connections().is_empty()
                    || self.is_returning.swap(true, Ordering::AcqRel)
                {
                    return;
                }
            }
        }
    }

    /// Removes the connections that have waited for at least `age`.
    fn take_idle_for(&self, age: Duration) -> Vec<BorrowedConnection<B>> {
        let mut idle = self.idle_connections();
        // Connections with the longest wait are at the front.
        let warm = idle.partition_point(|one| one.idle_since.elapsed() >= age);
        idle.drain(..warm).map(|one| one.borrowed).collect()
    }

    /// Applies a fault to the other sessions. `since` is the time at which the failed session came
    /// out of the pool.
    pub(crate) fn handle_fault(self: &Arc<Self>, since: Instant, reason: DiscardReason) {
        self.renewal.record_failure(reason);
        match reason.other_sessions() {
            OtherSessions::Ping => {
                self.renewal.ping_older();
                for borrowed in self.take_idle_for(Duration::ZERO) {
                    background(return_to_pool(borrowed.connection, Arc::clone(self)));
                }
            }
            // The renewal has handled the faults of sessions from before it.
            OtherSessions::Close if self.renewal.is_valid(since) => self.renew(reason),
            OtherSessions::Keep | OtherSessions::Close => {}
        }
    }

    /// Closes every idle session. Sessions in use are closed when they return.
    pub(crate) fn renew(self: &Arc<Self>, reason: DiscardReason) {
        self.renewal.close_older(reason);
        for borrowed in self.take_idle_for(Duration::ZERO) {
            discard(self, borrowed.connection, None, reason);
        }
    }

    /// Idle connections, here and in the pool.
    pub(crate) fn idle(&self) -> usize {
        self.idle_connections().len() + self.pool.num_idle()
    }

    /// Closes every connection as soon as it has returned.
    pub(crate) async fn close(&self) {
        self.permits.close();
        for borrowed in self.take_idle_for(Duration::ZERO) {
            drop(borrowed);
        }
        self.pool.close().await;
    }

    fn idle_connections(&self) -> MutexGuard<'_, Vec<IdleConnection<B>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time for a connection to finish the work that its user left.
pub(crate) const RETURN_TIMEOUT: Duration = Duration::from_millis(500);

/// Gives a connection back, or closes it when that takes longer than [`RETURN_TIMEOUT`].
pub(crate) type ReturnConnection<B> =
    fn(PoolConnection<B>, Arc<WarmPool<B>>) -> BoxFuture<'static, ()>;

/// Returns a connection in a task. Its permit becomes free when the task has ended.
pub(crate) fn return_in_background<B: sqlx::Database>(
    return_connection: ReturnConnection<B>,
    borrowed: BorrowedConnection<B>,
    permit: ConnectionPermit,
    pool: &Arc<WarmPool<B>>,
) {
    let pool = Arc::clone(pool);
    background(async move {
        return_connection(borrowed.connection, pool).await;
        drop(permit);
    });
}

/// Closes and counts a connection in a task. Its permit becomes free when the task has ended.
pub(crate) fn discard<B: sqlx::Database>(
    pool: &WarmPool<B>,
    connection: PoolConnection<B>,
    permit: Option<ConnectionPermit>,
    reason: DiscardReason,
) {
    pool.renewal.count_discarded(reason);
    background(async move {
        // This future owns the connection, so dropping it closes the socket.
        let _closed = timeout(RETURN_TIMEOUT, connection.close()).await;
        drop(permit);
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

pub(crate) fn return_to_pool<B: sqlx::Database>(
    mut connection: PoolConnection<B>,
    pool: Arc<WarmPool<B>>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let since = Instant::now();
        // This future owns the connection from here on, so dropping it closes the socket.
        if timeout(RETURN_TIMEOUT, connection.return_to_pool())
            .await
            .is_err()
        {
            pool.renewal.count_discarded(DiscardReason::Silent);
            pool.handle_fault(since, DiscardReason::Silent);
            tracing::debug!("a connection was closed because its return to the pool took too long");
        }
    })
}
