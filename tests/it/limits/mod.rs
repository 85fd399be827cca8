//! Rate limits: in one process, shared among several, and without the server that
//! they are shared through. Places for requests and bodies, and what one client may hold.
//! Connections, and the file descriptors that they need.

mod connections;
mod faults;
mod local;
mod places;
pub mod server;
mod shared;

use crate::support::{Backend, Builder, Service};

/// A service with limits, behind a proxy on loopback that is believed.
fn limited(per_second: &str, burst: &str) -> Builder {
    Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", per_second)
        .env("APP__RATE_LIMIT__DEFAULT__BURST", burst)
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
}

/// A request of the client at `address`, as the proxy passes it on.
async fn ping(service: &Service, address: &str) -> reqwest::Response {
    let request = service.client.get(service.url("/api/v1/ping"));
    let request = request.header("x-forwarded-for", address);
    request.send().await.expect("an answer")
}

async fn ping_status(service: &Service, address: &str) -> u16 {
    ping(service, address).await.status().as_u16()
}
