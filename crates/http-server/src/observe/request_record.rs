//! The record of a request that has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method};
use request::propagation::Remote;
use request::{ReportedProblem, RequestContext};

use crate::observe::metrics::RouteMetrics;

/// Maximum bytes of a path that are written.
pub(crate) const MAX_PATH: usize = 512;

/// All facts that are recorded of a request when it has ended.
pub struct RequestRecord {
    /// Context of the request: its ids, client and principal.
    pub context: Arc<RequestContext>,
    /// Instruments of its route.
    pub route: Arc<RouteMetrics>,
    /// The method as sent.
    pub method: Method,
    /// Path and query. The query string is written to no signal.
    pub target: Option<PathAndQuery>,
    /// `:authority` of HTTP/2.
    pub authority: Option<Authority>,
    /// `Host`: the name by which the client addressed this service.
    pub host: Option<HeaderValue>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// The caller's span, if there is one.
    pub remote: Option<Box<Remote>>,
    /// Time at which its head had arrived.
    pub started: SystemTime,
    /// Time from `started` to the end of the response body.
    pub duration: Duration,
    /// Time spent polling it.
    pub busy: Duration,
    /// Status that was sent, or 499 when the client left before the end.
    pub status: u16,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// `https` when this service terminates TLS itself, else `http`.
    pub scheme: &'static str,
    /// `1.0`, `1.1` or `2`.
    pub protocol_version: &'static str,
    /// The problem that was answered.
    pub failure: Option<ReportedProblem>,
}

impl RequestRecord {
    /// The requested path, or an empty text when there is none.
    pub(crate) fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }
}
