//! Leases of connections. Every connection returns to the pool or is closed.
//!
//! A request that is cancelled drops its query halfway. sqlx then returns the connection to the
//! pool and pings the server without a timeout. With a frozen server, every cancelled request would
//! take one place of the pool forever, and a long query would run on. A connection therefore has a
//! limited time to return. After it the socket is closed. The server then ends the query
//! (`client_connection_check_interval`) and rolls it back.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Executor;
use sqlx::pool::PoolConnection;
use tokio::time::timeout;

use crate::fault::{Fault, Reason};
use crate::query;
use crate::warm::{
    BorrowedConnection, ConnectionPermit, SETTLE, Settle, WarmPool, discard, give_back, settle,
};

/// A connection of the pool. Dropping it returns or closes it.
pub struct Lease<B: sqlx::Database>(Option<LeasedConnection<B>>);

struct LeasedConnection<B: sqlx::Database> {
    borrowed: BorrowedConnection<B>,
    place: ConnectionPermit,
    home: Arc<WarmPool<B>>,
    /// A transaction is open.
    roll_back: Option<Settle<B>>,
}

impl<B: sqlx::Database> Lease<B> {
    /// Takes a connection of the pool as soon as one is free.
    pub(crate) async fn acquire(home: &Arc<WarmPool<B>>) -> Result<Self, sqlx::Error> {
        let (borrowed, place) = home.acquire().await?;
        Ok(Self(Some(LeasedConnection {
            borrowed,
            place,
            home: Arc::clone(home),
            roll_back: None,
        })))
    }

    fn held(&mut self) -> &mut LeasedConnection<B> {
        match &mut self.0 {
            Some(held) => held,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> LeasedConnection<B> {
    /// Checks the connection on its way back to the pool. It is closed instead if its query met a
    /// fault of the session.
    fn settle(self) {
        if let Some(reason) = query::fault() {
            self.home.failed(self.borrowed.since, reason);
            let connection = self.borrowed.connection;
            return discard(&self.home, connection, Some(self.place), reason);
        }
        let how = self.roll_back.unwrap_or(give_back);
        settle(how, self.borrowed, self.place, &self.home);
    }
}

/// A connection that was handed to its query. It is settled unless the query ends well.
struct ReturnedLease<B: sqlx::Database>(Option<LeasedConnection<B>>);

impl<B: sqlx::Database> query::ReturnedConnection for ReturnedLease<B> {
    fn keep(mut self: Box<Self>) {
        if let Some(held) = self.0.take() {
            held.home.keep(held.borrowed, held.place);
        }
    }
}

impl<B: sqlx::Database> Drop for ReturnedLease<B> {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.settle();
        }
    }
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
            // A connection that comes back was not handed over. Dropping it settles it.
            drop(query::leave(Box::new(ReturnedLease(Some(held)))));
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
        transaction.0.held().roll_back = Some(roll_back);
        transaction.say(begin).await?;
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
        self.say(statement).await?;
        self.0.held().roll_back = None;
        Ok(())
    }

    async fn say(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let said = (*self.0).execute(sqlx::raw_sql(statement)).await;
        // Recorded here, because the transaction may be dropped before the error is converted.
        said.inspect_err(|error| query::remember(Fault::of(error)))?;
        Ok(())
    }
}

fn roll_back<B>(mut connection: PoolConnection<B>, home: Arc<WarmPool<B>>) -> BoxFuture<'static, ()>
where
    B: sqlx::Database,
    for<'c> &'c mut B::Connection: Executor<'c, Database = B>,
{
    Box::pin(async move {
        let undone = (*connection).execute(sqlx::raw_sql("ROLLBACK"));
        // An error of the database means that no transaction is open any more.
        if let Ok(Ok(_) | Err(sqlx::Error::Database(_))) = timeout(SETTLE, undone).await {
            give_back(connection, home).await;
        } else {
            home.renewal.count(Reason::Silent);
            // If the pool dropped it, sqlx would first ping the server without a timeout.
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
