//! What is known of a request while it runs ([`RequestContext`]) and what is
//! written of it when it has ended ([`RequestRecord`]).
//!
//! Metrics, the request line and the server span are all written from the one
//! record, so that they agree with each other.

mod context;
pub mod http;
mod metrics;
mod record;

pub use context::{BodyLimits, RequestContext, scope};
pub use metrics::{HttpMetrics, RouteMetrics, RouteTable};
pub use record::{Observer, RequestRecord};
