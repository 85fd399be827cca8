//! Connections that cannot be kept from the pool.
//!
//! A request that is given up drops its query in the middle. sqlx then returns the
//! connection to the pool by asking the server for a sign of life, without a bound:
//! with a frozen server every abandoned request would take one place of the pool
//! for good, and a long query would run on. So a connection has a moment to come
//! back; after it the socket is closed, and the server ends what it was doing
//! (`client_connection_check_interval`) and rolls it back.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use tokio::time::timeout;

/// How long a connection may take to finish what its user has left behind.
const SETTLE: Duration = Duration::from_millis(500);

/// Gives a connection back, or closes it when that takes longer than [`SETTLE`].
type Settle<B> = fn(PoolConnection<B>) -> BoxFuture<'static, ()>;

/// A connection of the pool; given back, or closed, when dropped.
pub struct Lease<B: sqlx::Database> {
    connection: Option<PoolConnection<B>>,
    settle: Settle<B>,
}

impl<B: sqlx::Database> Lease<B> {
    pub(super) fn new(connection: PoolConnection<B>) -> Self {
        Self {
            connection: Some(connection),
            settle: give_back,
        }
    }
}

fn give_back<B: sqlx::Database>(mut connection: PoolConnection<B>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // The connection is this future's from here on: dropped means closed.
        if timeout(SETTLE, connection.return_to_pool()).await.is_err() {
            tracing::debug!("closed a connection that did not come back in time");
        }
    })
}

impl<B: sqlx::Database> Deref for Lease<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> DerefMut for Lease<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<B: sqlx::Database> Drop for Lease<B> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // Without a runtime the process is ending, and the socket with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // Untracked, as sqlx's own return is: bounded, and closing the pool waits for it.
        runtime.spawn((self.settle)(connection));
    }
}

/// A transaction on a server; rolled back when dropped.
#[cfg(feature = "postgres")]
pub struct ServerTransaction(Lease<sqlx::Postgres>);

#[cfg(feature = "postgres")]
impl ServerTransaction {
    pub(super) async fn begin(lease: Lease<sqlx::Postgres>) -> Result<Self, sqlx::Error> {
        let mut transaction = Self(lease);
        // Before it begins, so that a beginning that is given up is undone as well.
        transaction.0.settle = roll_back;
        transaction.say("BEGIN").await?;
        Ok(transaction)
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// The database's; unless the connection broke, nothing was written then.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.say("COMMIT").await?;
        self.0.settle = give_back;
        Ok(())
    }

    /// Undoes what was written.
    ///
    /// # Errors
    /// The database's.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.say("ROLLBACK").await?;
        self.0.settle = give_back;
        Ok(())
    }

    async fn say(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        use sqlx::Executor as _;
        self.0.execute(sqlx::raw_sql(statement)).await?;
        Ok(())
    }
}

#[cfg(feature = "postgres")]
fn roll_back(mut connection: PoolConnection<sqlx::Postgres>) -> BoxFuture<'static, ()> {
    use sqlx::Executor as _;
    Box::pin(async move {
        let undone = timeout(SETTLE, connection.execute(sqlx::raw_sql("ROLLBACK"))).await;
        if matches!(undone, Ok(Ok(_))) {
            give_back(connection).await;
        } else {
            // Dropped in the pool's hands it would be asked for a sign of life first,
            // for as long as the server takes.
            drop(connection.detach());
            tracing::debug!("closed a connection that could not roll back in time");
        }
    })
}

#[cfg(feature = "postgres")]
impl Deref for ServerTransaction {
    type Target = sqlx::PgConnection;

    fn deref(&self) -> &sqlx::PgConnection {
        &self.0
    }
}

#[cfg(feature = "postgres")]
impl DerefMut for ServerTransaction {
    fn deref_mut(&mut self) -> &mut sqlx::PgConnection {
        &mut self.0
    }
}
