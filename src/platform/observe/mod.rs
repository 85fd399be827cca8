//! What is
//! written of a request when it has ended ([`RequestRecord`]).
//!
//! Metrics, the request line and the server span are all written from the one
//! record, so that they agree with each other.

mod head;
pub mod http;
mod line;
mod metrics;
mod pending;
mod record;
mod routes;
mod span;

pub use head::{REQUEST_ID, unobserved};
pub use metrics::{HttpMetrics, RouteMetrics};
pub use pending::Observation;
pub use record::{Observer, RequestRecord};
pub use routes::{Asked, RouteTable};
