//! Rate limits, local and shared by several processes, with and without their Redis server. Limits
//! of concurrent requests, bodies and connections, and of file descriptors.

mod concurrency;
mod connections;
mod local_rates;
mod redis_faults;
pub mod redis_server;
mod shared_rates;

use crate::support::{Backend, Builder, Service};

/// A service with rate limits behind a trusted proxy on loopback.
fn limited(per_second: &str, burst: &str) -> Builder {
    Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", per_second)
        .env("APP__RATE_LIMIT__DEFAULT__BURST", burst)
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
}

/// Sends a ping of the client at `address`, as the proxy forwards it.
async fn ping(service: &Service, address: &str) -> reqwest::Response {
    let request = service.client.get(service.url("/api/v1/ping"));
    let request = request.header("x-forwarded-for", address);
    request.send().await.expect("an answer")
}

async fn ping_status(service: &Service, address: &str) -> u16 {
    ping(service, address).await.status().as_u16()
}
