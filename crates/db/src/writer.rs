//! Turns for SQLite's write transactions inside the process.
//!
//! SQLite accepts one writer at a time. Waiting writers poll with growing pauses, and each keeps a
//! connection. Ten concurrent writers took seven times as long as ten in sequence and left no
//! connection to readers. Writers therefore queue here in their order of arrival before they take a
//! connection. `busy_timeout` remains for writers outside of this queue.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection};
use tokio::sync::OwnedMutexGuard;

use crate::lease::Transaction;

/// The place at the head of the queue.
pub(crate) type WriterPermit = OwnedMutexGuard<()>;
/// The queue.
pub(crate) type Queue = Arc<tokio::sync::Mutex<()>>;

/// A transaction that holds the write lock. Dropping it rolls it back.
pub struct WriteTransaction {
    // Fields are dropped in this order: the transaction first.
    transaction: Transaction<Sqlite>,
    permit: WriterPermit,
}

impl WriteTransaction {
    pub(crate) fn new(transaction: Transaction<Sqlite>, permit: WriterPermit) -> Self {
        Self {
            transaction,
            permit,
        }
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// The error of the database. Nothing was written then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        let Self {
            transaction,
            permit,
        } = self;
        let committed = transaction.commit().await;
        drop(permit);
        committed
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    /// The error of the database.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        let Self {
            transaction,
            permit,
        } = self;
        let undone = transaction.rollback().await;
        drop(permit);
        undone
    }
}

impl Deref for WriteTransaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for WriteTransaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

/// Waits for a turn, at most as long as for a connection.
pub(crate) async fn permit(queue: &Queue, bound: Duration) -> Result<WriterPermit, sqlx::Error> {
    tokio::time::timeout(bound, Arc::clone(queue).lock_owned())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)
}
