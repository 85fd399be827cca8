//! Connections that cannot be kept from the pool.
//!
//! A request that is given up drops its query in the middle. sqlx then returns the
//! connection to the pool by asking the server for a sign of life, without a bound:
//! with a frozen server every abandoned request would take one place of the pool
//! for good, and a long query would run on. So a connection has a moment to come
//! back; after it the socket is closed, and the server ends what it was doing
//! (`client_connection_check_interval`) and rolls it back.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::Executor;
use sqlx::pool::PoolConnection;
use tokio::time::timeout;

use super::fault::{Fault, Reason};
use super::warm::{self, Borrowed, Place, Warm};

/// How long a connection may take to finish what its user has left behind.
const SETTLE: Duration = Duration::from_millis(500);

/// Gives a connection back, or closes it when that takes longer than [`SETTLE`].
type Settle<B> = fn(PoolConnection<B>, Arc<Warm<B>>) -> BoxFuture<'static, ()>;

/// A connection of the pool; given back, or closed, when dropped.
pub struct Lease<B: sqlx::Database>(Option<Held<B>>);

struct Held<B: sqlx::Database> {
    borrowed: Borrowed<B>,
    place: Place,
    home: Arc<Warm<B>>,
    /// A transaction is open.
    roll_back: Option<Settle<B>>,
}

impl<B: sqlx::Database> Lease<B> {
    pub(super) fn new(borrowed: Borrowed<B>, place: Place, home: Arc<Warm<B>>) -> Self {
        Self(Some(Held {
            borrowed,
            place,
            home,
            roll_back: None,
        }))
    }

    fn held(&mut self) -> &mut Held<B> {
        match &mut self.0 {
            Some(held) => held,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> Held<B> {
    /// Has the connection prove itself on its way back to the pool, or closes it when
    /// its query has shown that it is of no further use.
    fn settle(self) {
        if let Some(reason) = warm::fault() {
            self.home.failed(self.borrowed.since, reason);
            let connection = self.borrowed.connection;
            return discard(&self.home, connection, Some(self.place), reason);
        }
        let how = self.roll_back.unwrap_or(give_back);
        settle(how, self.borrowed, self.place, &self.home);
    }
}

/// A connection that was left to its query, and settled unless the query ends well.
struct Left<B: sqlx::Database>(Option<Held<B>>);

impl<B: sqlx::Database> warm::Returned for Left<B> {
    fn keep(mut self: Box<Self>) {
        if let Some(held) = self.0.take() {
            held.home.keep(held.borrowed, held.place);
        }
    }
}

impl<B: sqlx::Database> Drop for Left<B> {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.settle();
        }
    }
}

/// Gives a connection back in a task; its place is free when that has ended.
pub(super) fn settle<B: sqlx::Database>(
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
pub(super) fn discard<B: sqlx::Database>(
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
pub(super) fn background(task: impl Future<Output = ()> + Send + 'static) {
    // Without a runtime the process is ending, and the socket with it.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(task);
    }
}

pub(super) fn give_back<B: sqlx::Database>(
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

impl<B: sqlx::Database> Deref for Lease<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        match &self.0 {
            Some(held) => &held.borrowed.connection,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> DerefMut for Lease<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        &mut self.held().borrowed.connection
    }
}

impl<B: sqlx::Database> Drop for Lease<B> {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else {
            return;
        };
        if held.roll_back.is_some() {
            held.settle();
        } else {
            // Whatever comes back was not left, and is settled.
            drop(warm::leave(Box::new(Left(Some(held)))));
        }
    }
}

/// A transaction; rolled back when dropped.
pub struct Transaction<B: sqlx::Database>(Lease<B>);

impl<B> Transaction<B>
where
    B: sqlx::Database,
    for<'c> &'c mut B::Connection: Executor<'c, Database = B>,
{
    /// With the statement that begins it.
    pub(super) async fn begin(lease: Lease<B>, begin: &'static str) -> Result<Self, sqlx::Error> {
        let mut transaction = Self(lease);
        // Before it begins, so that a beginning that is given up is undone as well.
        transaction.0.held().roll_back = Some(roll_back);
        transaction.say(begin).await?;
        Ok(transaction)
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// The database's; unless the connection broke, nothing was written then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Undoes what was written.
    ///
    /// # Errors
    /// The database's.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.say(statement).await?;
        self.0.held().roll_back = None;
        Ok(())
    }

    async fn say(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let said = (*self.0).execute(sqlx::raw_sql(statement)).await;
        // Here, because the transaction may be dropped before the error is converted.
        said.inspect_err(|error| warm::remember(Fault::of(error)))?;
        Ok(())
    }
}

fn roll_back<B>(mut connection: PoolConnection<B>, home: Arc<Warm<B>>) -> BoxFuture<'static, ()>
where
    B: sqlx::Database,
    for<'c> &'c mut B::Connection: Executor<'c, Database = B>,
{
    Box::pin(async move {
        let undone = (*connection).execute(sqlx::raw_sql("ROLLBACK"));
        // An error of the database's: no transaction was open, or none is any more.
        if let Ok(Ok(_) | Err(sqlx::Error::Database(_))) = timeout(SETTLE, undone).await {
            give_back(connection, home).await;
        } else {
            home.renewal.count(Reason::Silent);
            // Dropped in the pool's hands it would be asked for a sign of life first,
            // for as long as the server takes.
            drop(connection.detach());
            tracing::debug!("closed a connection that could not roll back in time");
        }
    })
}

impl<B: sqlx::Database> Deref for Transaction<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        &self.0
    }
}

impl<B: sqlx::Database> DerefMut for Transaction<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        &mut self.0
    }
}
