//! Database access: connections, migrations, and the path of every store's query.
//!
//! A [`Database`] is the pool of the configured backend, SQLite or Postgres. A store holds a [`Db`]
//! and runs each of its methods through [`Db::run`]. That measures the method, limits its time and
//! gives it a span if the request is sampled. A service passes its name and its migrations as a
//! [`Schema`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use db::{Config, Database, DbError, DbMetrics, Schema};
//! use prometheus::Registry;
//! use settings::{Layers, Reader};
//! use telemetry::Exemplars;
//!
//! static SCHEMA: Schema = Schema::without_migrations("mailer");
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let url = [("DATABASE_URL".to_owned(), "sqlite::memory:".to_owned())];
//! let layers = Layers::load("no/folder".as_ref(), "no/.env".as_ref(), url);
//! let config = Config::read(&mut Reader::new(layers));
//! let metrics = Arc::new(DbMetrics::register(&Registry::new())?);
//! let database = Database::new(&SCHEMA, &config, metrics, Exemplars::default())?;
//! if let Database::Sqlite(db) = &database {
//!     let answer: i64 = db
//!         .run("mail.count", async {
//!             let mut connection = db.acquire().await?;
//!             let query = sqlx::query_scalar("SELECT 42");
//!             query.fetch_one(&mut *connection).await.map_err(DbError::from)
//!         })
//!         .await?;
//!     assert_eq!(answer, 42);
//! }
//! database.close().await;
//! # anyhow::Ok(())
//! # })?;
//! # anyhow::Ok(())
//! ```

// A build with one backend serves to prepare the checked queries of that backend and is not run.
#![cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    allow(dead_code, unused_imports)
)]

mod config;
mod connect;
mod database;
mod error;
mod exclusive_lock;
mod fault;
#[cfg(feature = "sqlite")]
mod file_state;
mod files;
mod lease;
mod metrics;
pub mod migrate;
mod pooler;
mod pooler_check;
mod probe;
mod query;
mod reach;
mod schema;
mod session_renewal;
mod warm;
#[cfg(feature = "sqlite")]
mod writer;

pub use config::{Backend, Config, DatabaseUrl};
pub use database::{Database, Db};
pub use error::DbError;
pub use exclusive_lock::ExclusiveLock;
pub use lease::{Lease, Transaction};
pub use metrics::DbMetrics;
pub use pooler::Pooler;
pub use probe::ProbeError;
pub use reach::ReachError;
pub use schema::Schema;
#[cfg(feature = "sqlite")]
pub use writer::WriteTransaction;
