//! SQLite's write transactions take turns inside the process.
//!
//! SQLite lets one writer in at a time, and those that wait for it poll with growing
//! pauses while each keeps a connection. Ten of them at once took seven times as long
//! as one after the other, and left no connection to readers. So writers queue here,
//! first come, first served, before they take a connection; `busy_timeout` remains for
//! writers outside of this queue.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, SqliteConnection};
use tokio::sync::OwnedMutexGuard;

use crate::lease::Transaction;

/// The place at the head of the queue.
pub(crate) type Turn = OwnedMutexGuard<()>;
/// The queue.
pub(crate) type Queue = Arc<tokio::sync::Mutex<()>>;

/// A transaction that holds the write lock; rolled back when dropped.
pub struct WriteTransaction {
    // Dropped in this order: the transaction first.
    transaction: Transaction<Sqlite>,
    turn: Turn,
}

impl WriteTransaction {
    pub(crate) fn new(transaction: Transaction<Sqlite>, turn: Turn) -> Self {
        Self { transaction, turn }
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// The database's; nothing was written then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { transaction, turn } = self;
        let committed = transaction.commit().await;
        drop(turn);
        committed
    }

    /// Undoes what was written.
    ///
    /// # Errors
    /// The database's.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        let Self { transaction, turn } = self;
        let undone = transaction.rollback().await;
        drop(turn);
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

/// Waits for a turn, no longer than for a connection.
pub(crate) async fn turn(queue: &Queue, bound: Duration) -> Result<Turn, sqlx::Error> {
    tokio::time::timeout(bound, Arc::clone(queue).lock_owned())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)
}
