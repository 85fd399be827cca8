//! Warm connections: given from one query straight to the next.
//!
//! sqlx asks the server for a sign of life whenever a connection comes back to its
//! pool, which is a round trip for every query, and on SQLite two switches of threads.
//! A connection whose last query was answered to the end has just given that sign. So
//! it waits here for the next query, for a moment, instead of going back. One that is
//! not wanted within [`TRUSTED_IDLE`] goes back to the pool, and so does each after
//! [`RECHECK`], so that the pool's idle time and life apply as ever.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Pool;
use sqlx::pool::PoolConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::TRUSTED_IDLE;
use super::fault::{Fault, Others, Reason};
use super::lease::{self, Lease};
use super::renewal::Renewal;

/// How long a connection is used without going through the pool.
const RECHECK: Duration = Duration::from_secs(10);

/// The pool, with the warm connections before it.
pub(super) struct Warm<B: sqlx::Database> {
    pub(super) pool: Pool<B>,
    /// As many as the pool has connections. Who has one finds a connection here or in
    /// the pool; first come, first served.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle<B>>>,
    /// A task takes back what nobody wants.
    cooling: AtomicBool,
    /// Which sessions are still trusted.
    pub(super) renewal: Arc<Renewal>,
}

/// A connection on its way from the pool to a query and back.
pub(super) struct Borrowed<B: sqlx::Database> {
    pub(super) connection: PoolConnection<B>,
    /// When it came out of the pool.
    pub(super) since: Instant,
}

struct Idle<B: sqlx::Database> {
    borrowed: Borrowed<B>,
    since: Instant,
}

/// The right to one connection.
pub(super) type Place = OwnedSemaphorePermit;

impl<B: sqlx::Database> Warm<B> {
    pub(super) fn new(pool: Pool<B>, renewal: Arc<Renewal>) -> Arc<Self> {
        let size = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        Arc::new(Self {
            pool,
            places: Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            cooling: AtomicBool::new(false),
            renewal,
        })
    }

    /// A connection, as soon as one is free.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Lease<B>, sqlx::Error> {
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
            Ok(Lease::new(borrowed, place, Arc::clone(self)))
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
    pub(super) fn keep(self: &Arc<Self>, borrowed: Borrowed<B>, place: Place) {
        if !self.renewal.trusts(borrowed.since) {
            let reason = self.renewal.reason();
            return lease::discard(self, borrowed.connection, Some(place), reason);
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
            return lease::settle(lease::give_back, borrowed, place, self);
        }
        drop(place);
        if !self.cooling.swap(true, Ordering::AcqRel) {
            lease::background(Arc::clone(self).cool_down());
        }
    }

    /// Gives back to the pool what nobody has wanted, until nothing is left.
    async fn cool_down(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TRUSTED_IDLE).await;
            for borrowed in self.cold(TRUSTED_IDLE) {
                lease::background(lease::give_back(borrowed.connection, Arc::clone(&self)));
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
    pub(super) fn failed(self: &Arc<Self>, since: Instant, reason: Reason) {
        self.renewal.failed(reason);
        match reason.others() {
            Others::Ask => {
                self.renewal.ask_older();
                for borrowed in self.cold(Duration::ZERO) {
                    lease::background(lease::give_back(borrowed.connection, Arc::clone(self)));
                }
            }
            // What an old session says of the time before a renewal is known.
            Others::Close if self.renewal.trusts(since) => self.renew(reason),
            Others::Keep | Others::Close => {}
        }
    }

    /// Closes every session that is idle now; those in use follow when they come back.
    pub(super) fn renew(self: &Arc<Self>, reason: Reason) {
        self.renewal.close_older(reason);
        for borrowed in self.cold(Duration::ZERO) {
            lease::discard(self, borrowed.connection, None, reason);
        }
    }

    /// Connections that nobody uses, here and in the pool.
    pub(super) fn idle(&self) -> usize {
        self.waiting().len() + self.pool.num_idle()
    }

    /// Closes every connection, once it is back.
    pub(super) async fn close(&self) {
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

/// A connection that a query has given back before it is known how the query ended.
pub(super) trait Returned: Send {
    /// It ended well: the connection is at rest.
    fn keep(self: Box<Self>);
}

/// What is known of the query that runs on this task.
#[derive(Default)]
struct Query {
    returned: Option<Box<dyn Returned>>,
    /// Why its session is of no further use.
    fault: Option<Reason>,
    /// It is done once more when its plan is stale.
    repeats: bool,
}

tokio::task_local! {
    static QUERY: RefCell<Query>;
}

/// Asks or tells the query that is running on this task, if one is.
fn of_query<T>(with: impl FnOnce(&mut Query) -> T) -> Option<T> {
    let with = |query: &RefCell<Query>| {
        query
            .try_borrow_mut()
            .ok()
            .map(|mut query| with(&mut query))
    };
    QUERY.try_with(with).ok().flatten()
}

/// Leaves a connection to the query that is running on this task; returns it when
/// none is, or when another one is there already.
pub(super) fn leave(returned: Box<dyn Returned>) -> Option<Box<dyn Returned>> {
    let mut returned = Some(returned);
    of_query(|query| {
        if query.returned.is_none() {
            query.returned = returned.take();
        }
    });
    returned
}

/// Notes what an error says about the session that the running query holds; the first
/// fault counts, the others follow from it.
pub(super) fn remember(fault: Fault) {
    if let Fault::Session(reason) = fault {
        of_query(|query| {
            query.fault.get_or_insert(reason);
        });
    }
}

/// Why the session of the running query is of no further use.
pub(super) fn fault() -> Option<Reason> {
    of_query(|query| query.fault).flatten()
}

/// Whether the running query is done once more after this fault.
pub(super) fn repeats(fault: Fault) -> bool {
    fault == Fault::Session(Reason::StalePlan) && of_query(|query| query.repeats) == Some(true)
}

/// Runs a query. When it ends well, its connection is kept; when it fails, or is given
/// up in the middle, the connection has to prove itself; when the failure was the
/// session's, it is closed.
pub(super) async fn run<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    attempt(work, false).await.0
}

/// Runs a query, and once more on another session when its plan was stale.
pub(super) async fn run_again<T, E, F>(work: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    match attempt(work(), true).await {
        // Boxed: seldom needed.
        (Err(_), Some(Reason::StalePlan)) => Box::pin(run(work())).await,
        (result, _) => result,
    }
}

async fn attempt<T, E>(
    work: impl Future<Output = Result<T, E>>,
    repeats: bool,
) -> (Result<T, E>, Option<Reason>) {
    let query = Query {
        repeats,
        ..Query::default()
    };
    QUERY
        .scope(RefCell::new(query), async {
            let result = work.await;
            let (returned, fault) =
                of_query(|query| (query.returned.take(), query.fault)).unwrap_or_default();
            if let (Ok(_), Some(returned)) = (&result, returned) {
                returned.keep();
            }
            (result, fault)
        })
        .await
}
