//! Test harness: services, databases and clients.

mod answer;
mod database;
pub mod http2;
mod metrics;
mod postgres;
pub mod raw_http;
pub mod service;

pub use answer::{Answer, send};
pub use database::{Backend, TestDatabase};
pub use metrics::Samples;
pub use postgres::PostgresServer;
pub use service::{Builder, Service};

use std::time::{Duration, Instant};

/// Defines a test for each backend from an async function with a [`Backend`] parameter.
#[macro_export]
macro_rules! on_both {
    ($( $(#[$meta:meta])* async fn $name:ident($backend:ident: Backend) $body:block )*) => { $(
        mod $name {
            use super::*;

            async fn run($backend: $crate::support::Backend) $body

            $(#[$meta])*
            #[tokio::test]
            async fn sqlite() {
                run($crate::support::Backend::Sqlite).await;
            }

            $(#[$meta])*
            #[tokio::test]
            async fn postgres() {
                run($crate::support::Backend::Postgres).await;
            }
        }
    )* };
}

/// Polls until `probe` gives a value.
///
/// # Panics
/// After ten seconds. This is the bound of a failing test and not a delay.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(10), what, probe).await
}

/// Polls until `probe` gives a value.
///
/// # Panics
/// After `bound`. This is the bound of a failing test and not a delay.
pub async fn eventually_within<T>(
    bound: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
