//! Users and their credentials on SQLite. A transaction takes the write lock at its beginning, so that
//! data cannot change between its reads and its writes.

mod api_keys;
mod audit;
mod queries;
mod sessions;
mod tokens;
mod users;

use std::sync::Arc;

use db::{Db, DbError};
use sqlx::{Sqlite, SqliteConnection};
use uuid::Uuid;

use super::ErasureHook;
use super::implementation::implement_identity_store;

/// The store on SQLite.
pub struct SqliteIdentityStore {
    db: Db<Sqlite>,
    hooks: Vec<Arc<dyn ErasureHook<Sqlite>>>,
}

impl SqliteIdentityStore {
    /// A store whose erasures run these hooks.
    #[must_use]
    pub fn new(db: Db<Sqlite>, hooks: Vec<Arc<dyn ErasureHook<Sqlite>>>) -> Self {
        Self { db, hooks }
    }
}

/// Whether a user is erased. In a write transaction the answer holds until its end, so code that
/// inserts rows for a user calls this first. Rows of users are never removed, so an id without a
/// row never belonged to a user.
///
/// # Errors
/// If the database fails.
pub async fn is_erased(connection: &mut SqliteConnection, user: Uuid) -> Result<bool, DbError> {
    let erased = sqlx::query_scalar!(
        r#"SELECT 1 AS "erased!: i64" FROM users WHERE id = ?1 AND erased_at IS NOT NULL"#,
        user
    )
    .fetch_optional(connection)
    .await?;
    Ok(erased.is_some())
}

implement_identity_store!(SqliteIdentityStore);
