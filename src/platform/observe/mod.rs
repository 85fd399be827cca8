//! What is known of a request while it runs ([`RequestContext`]) and what is
//! written of it when it has ended ([`RequestRecord`]).
//!
//! Metrics, the request line and the server span are all written from the one
//! record, so that they agree with each other.

mod cause;
mod context;
mod failures;
mod head;
pub mod http;
mod line;
mod metrics;
mod pending;
mod propagation;
mod record;
mod routes;
mod span;
mod visible;

pub use cause::{Cause, NoCause};
pub use context::{BodyLimits, RequestContext, scope, within};
pub use head::REQUEST_ID;
pub use metrics::{HttpMetrics, RouteMetrics};
pub use pending::Observation;
pub use propagation::{Remote, inject};
pub use record::{Observer, RequestRecord};
pub use routes::{Asked, RouteTable};
