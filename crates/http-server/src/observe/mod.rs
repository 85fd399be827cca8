//! The record of a request that has ended ([`RequestRecord`]).
//!
//! Metrics, the request line and the server span are written from the same record, so that they
//! agree with each other.

mod layer;
mod metrics;
mod observed_request;
mod observer;
mod request_head;
mod request_line;
mod request_record;
mod routes;
mod span;

pub use layer::{Observe, ObserveLayer, ObservedBody};
pub use metrics::{HttpMetrics, RouteMetrics};
pub use observed_request::Observation;
pub use observer::Observer;
pub use request_head::{REQUEST_ID, unobserved};
pub use request_record::RequestRecord;
pub use routes::{RouteLookup, RouteTable};
