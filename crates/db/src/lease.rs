//! Leases of connections. Every connection returns to the pool or is closed.
//!
//! A request that is cancelled drops its query halfway. sqlx then returns the connection to the
//! pool and pings the server without a timeout. With a frozen server, every cancelled request would
//! take one connection of the pool forever, and a long query would run on. A connection therefore has a
//! limited time to return. After it the socket is closed. The server then ends the query
//! (`client_connection_check_interval`) and rolls it back.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Executor;
use sqlx::pool::PoolConnection;
use tokio::time::timeout;

use crate::fault::{DiscardReason, Fault};
use crate::query;
use crate::warm::{
    BorrowedConnection, ConnectionPermit, RETURN_TIMEOUT, ReturnConnection, WarmPool, discard,
    return_in_background, return_to_pool,
};

/// A connection of the pool. Dropping it returns or closes it.
pub struct Lease<B: sqlx::Database>(Option<LeasedConnection<B>>);

struct LeasedConnection<B: sqlx::Database> {
    borrowed: BorrowedConnection<B>,
    permit: ConnectionPermit,
    pool: Arc<WarmPool<B>>,
    /// A transaction is open.
    roll_back: Option<ReturnConnection<B>>,
}

impl<B: sqlx::Database> Lease<B> {
    /// Takes a connection of the pool as soon as one is free.
    pub(crate) async fn acquire(pool: &Arc<WarmPool<B>>) -> Result<Self, sqlx::Error> {
        let (borrowed, permit) = pool.acquire().await?;
        Ok(Self(Some(LeasedConnection {
            borrowed,
            permit,
            pool: Arc::clone(pool),
            roll_back: None,
        })))
    }

    fn leased(&mut self) -> &mut LeasedConnection<B> {
        match &mut self.0 {
            Some(leased) => leased,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> LeasedConnection<B> {
    /// Checks the connection on its way back to the pool. It is closed instead if its query met a
    /// fault of the session.
    fn return_or_discard(self) {
        if let Some(reason) = query::session_fault() {
            self.pool.handle_fault(self.borrowed.acquired_at, reason);
            let connection = self.borrowed.connection;
            return discard(&self.pool, connection, Some(self.permit), reason);
        }
        let return_connection = self.roll_back.unwrap_or(return_to_pool);
        return_in_background(return_connection, self.borrowed, self.permit, &self.pool);
    }
}

/// A connection that was handed to its query. It is returned or discarded unless the query ends well.
struct ReturnedLease<B: sqlx::Database>(Option<LeasedConnection<B>>);

impl<B: sqlx::Database> query::ReturnedConnection for ReturnedLease<B> {
    fn keep(mut self: Box<Self>) {
        if let Some(leased) = self.0.take() {
            leased.pool.keep(leased.borrowed, leased.permit);
        }
    }
}

impl<B: sqlx::Database> Drop for ReturnedLease<B> {
    fn drop(&mut self) {
        if let Some(leased) = self.0.take() {
            leased.return_or_discard();
        }
    }
}

impl<B: sqlx::Database> Deref for Lease<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        match &self.0 {
            Some(leased) => &leased.borrowed.connection,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> DerefMut for Lease<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        &mut self.leased().borrowed.connection
    }
}

impl<B: sqlx::Database> Drop for Lease<B> {
    fn drop(&mut self) {
        let Some(leased) = self.0.take() else {
            return;
        };
        if leased.roll_back.is_some() {
            leased.return_or_discard();
        } else {
            // A connection that comes back was not handed over. Dropping it returns or discards it.
            drop(query::hand_over(Box::new(ReturnedLease(Some(leased)))));
        }
    }
}

/// A transaction. Dropping it rolls it back.
pub struct Transaction<B: sqlx::Database>(Lease<B>);

impl<B> Transaction<B>
where
    B: sqlx::Database,
    for<'c> &'c mut B::Connection: Executor<'c, Database = B>,
{
    /// Begins the transaction with the statement `begin`.
    pub(crate) async fn begin(lease: Lease<B>, begin: &'static str) -> Result<Self, sqlx::Error> {
        let mut transaction = Self(lease);
        // Set first, so that a cancelled `BEGIN` is rolled back as well.
        transaction.0.leased().roll_back = Some(roll_back);
        transaction.execute_raw(begin).await?;
        Ok(transaction)
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// The error of the database. Nothing was written then. If the connection broke, the outcome
    /// is unknown.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    /// The error of the database.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.execute_raw(statement).await?;
        self.0.leased().roll_back = None;
        Ok(())
    }

    async fn execute_raw(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let executed = (*self.0).execute(sqlx::raw_sql(statement)).await;
        // Recorded here, because the transaction may be dropped before the error is converted.
        executed.inspect_err(|error| query::record_fault(Fault::of(error)))?;
        Ok(())
    }
}

fn roll_back<B>(mut connection: PoolConnection<B>, pool: Arc<WarmPool<B>>) -> BoxFuture<'static, ()>
where
    B: sqlx::Database,
    for<'c> &'c mut B::Connection: Executor<'c, Database = B>,
{
    Box::pin(async move {
        let undone = (*connection).execute(sqlx::raw_sql("ROLLBACK"));
        // An error of the database means that no transaction is open any more.
        if let Ok(Ok(_) | Err(sqlx::Error::Database(_))) = timeout(RETURN_TIMEOUT, undone).await {
            return_to_pool(connection, pool).await;
        } else {
            pool.renewal.count_discarded(DiscardReason::Silent);
            // If the pool dropped it, sqlx would first ping the server without a timeout.
            drop(connection.detach());
            tracing::debug!("a connection was closed because its rollback took too long");
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
