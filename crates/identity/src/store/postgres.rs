//! Users and their credentials on Postgres. Locks are taken in one order everywhere: the user, a
//! family, the tokens of the family. Other slices call `user_is_erased` before they insert rows for
//! a user. This function in the database shares a lock with [`IdentityStore::erase_user`](super::IdentityStore::erase_user).

mod api_keys;
mod audit;
mod queries;
mod sessions;
mod tokens;
mod users;

use std::sync::Arc;

use db::Db;
use sqlx::Postgres;

use super::ErasureHook;
use super::implementation::implement_identity_store;

/// The store on Postgres.
pub struct PostgresIdentityStore {
    db: Db<Postgres>,
    hooks: Vec<Arc<dyn ErasureHook<Postgres>>>,
}

impl PostgresIdentityStore {
    /// A store whose erasures run these hooks.
    #[must_use]
    pub fn new(db: Db<Postgres>, hooks: Vec<Arc<dyn ErasureHook<Postgres>>>) -> Self {
        Self { db, hooks }
    }
}

implement_identity_store!(PostgresIdentityStore);
