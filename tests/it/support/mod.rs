//! Test harness: services, databases and clients.

mod database;
pub mod http2;
mod metrics;
mod postgres;
pub mod service;

pub use database::{Backend, TestDatabase};
pub use metrics::Samples;
pub use postgres::PostgresServer;
pub use service::{Builder, Service};

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
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "not within 10 s: {what}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
