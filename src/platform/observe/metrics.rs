//! Metrics of HTTP requests, with handles resolved once a route.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use crate::metrics;
use crate::platform::http::problem::Code;
use crate::platform::telemetry::exposition::{Exemplar, Exemplars, Slots};
use crate::platform::telemetry::metrics::LATENCY;

metrics! {
    /// What clients ask for and what they get. `path` is the route template or
    /// `unmatched`, `method` one of the standard nine or `other`.
    pub struct HttpMetrics {
        /// Requests whose response body has ended; aborted before that, `status` is `499`.
        pub requests: IntCounterVec = "http_requests_total"["method", "path", "status"];
        /// Seconds from the request's head to the end of the response body.
        pub duration: HistogramVec = "http_request_duration_seconds"["method", "path"], buckets LATENCY;
        /// Requests in work now.
        pub in_flight: IntGauge = "http_requests_in_flight";
        /// Open connections by listener: `public` or `admin`.
        pub connections: IntGaugeVec = "http_connections_open"["listener"];
        /// Seconds that a route's requests spent being polled: what the route costs in CPU time.
        pub busy: CounterVec = "http_request_busy_seconds_total"["method", "path"];
        /// Bytes of response bodies, as sent.
        pub response_bytes: IntCounterVec = "http_response_bytes_total"["method", "path"];
        /// Requests and connections that were refused because there were too many: `in_flight`, `connections`.
        pub shed: IntCounterVec = "http_shed_total"["reason"];
        /// Problems that were answered, by their `code` in lower case.
        pub errors: IntCounterVec = "errors_total"["type"];
        /// Panics that were caught.
        pub panics: IntCounter = "panics_total";
        /// Requests of strangers that carried `X-Forwarded-For` or `Forwarded`; the headers had no effect.
        pub untrusted_forwarded: IntCounter = "client_address_untrusted_forwarded_total";
    }
}

/// The instruments of one method and route.
pub struct RouteMetrics {
    duration: Histogram,
    exemplars: Arc<Slots>,
    busy: Counter,
    response_bytes: IntCounter,
    requests: IntCounterVec,
    method: &'static str,
    path: Arc<str>,
    /// By status code less 100; resolved at the first answer with that status.
    statuses: Box<[OnceLock<IntCounter>]>,
}

impl RouteMetrics {
    fn new(
        metrics: &HttpMetrics,
        exemplars: &Exemplars,
        method: &'static str,
        path: Arc<str>,
    ) -> Self {
        let labels = [("method", method), ("path", &*path)];
        Self {
            duration: metrics.duration.with_label_values(&[method, &path]),
            exemplars: exemplars.slots("http_request_duration_seconds", &labels, LATENCY),
            busy: metrics.busy.with_label_values(&[method, &path]),
            response_bytes: metrics.response_bytes.with_label_values(&[method, &path]),
            requests: metrics.requests.clone(),
            method,
            path,
            statuses: (100..600).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The route template; shared, so that a request needs no copy of its own.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The counter of answers with this status.
    #[must_use]
    pub fn status(&self, status: u16) -> IntCounter {
        let resolve = || {
            let text = status.to_string();
            self.requests
                .with_label_values(&[self.method, &self.path, &text])
        };
        match self.statuses.get(usize::from(status).wrapping_sub(100)) {
            Some(slot) => slot.get_or_init(resolve).clone(),
            None => resolve(),
        }
    }

    /// Writes the end of a request.
    pub fn record(&self, status: u16, seconds: f64, busy_seconds: f64, bytes: u64) {
        self.status(status).inc();
        self.duration.observe(seconds);
        self.busy.inc_by(busy_seconds);
        self.response_bytes.inc_by(bytes);
    }

    /// Remembers a sampled request as the example of its latency.
    pub fn exemplify(&self, exemplar: Exemplar) {
        self.exemplars.put(exemplar);
    }
}

/// By route template; the few methods of one in a row.
type Routes = HashMap<Arc<str>, Vec<Arc<RouteMetrics>>>;

/// All routes that were seen; bounded, since methods and templates are.
pub struct RouteTable {
    metrics: HttpMetrics,
    exemplars: Exemplars,
    routes: RwLock<Routes>,
}

impl RouteTable {
    /// A table in which every known operation has its latency and its `500` and
    /// `503` series at zero, and every problem code its counter.
    pub fn new(
        metrics: HttpMetrics,
        exemplars: Exemplars,
        operations: impl IntoIterator<Item = (&'static str, String)>,
        codes: impl IntoIterator<Item = &'static Code>,
    ) -> Self {
        for code in codes {
            metrics
                .errors
                .with_label_values(&[&code.code.to_ascii_lowercase()]);
        }
        for reason in ["in_flight", "connections"] {
            metrics.shed.with_label_values(&[reason]);
        }
        for listener in ["public", "admin"] {
            metrics.connections.with_label_values(&[listener]);
        }
        let table = Self {
            metrics,
            exemplars,
            routes: RwLock::default(),
        };
        for (method, path) in operations {
            let route = table.resolve(method, &path);
            for status in [500, 503] {
                let _born = route.status(status);
            }
        }
        table
    }

    /// The metrics of the block.
    #[must_use]
    pub fn metrics(&self) -> &HttpMetrics {
        &self.metrics
    }

    /// The instruments of a method and route.
    #[must_use]
    pub fn resolve(&self, method: &'static str, path: &str) -> Arc<RouteMetrics> {
        let of_method = |routes: &Vec<Arc<RouteMetrics>>| {
            routes.iter().find(|route| route.method == method).cloned()
        };
        let read = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = read.get(path).and_then(of_method) {
            return route;
        }
        drop(read);
        let mut write = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let path: Arc<str> = Arc::from(path);
        let routes = write.entry(Arc::clone(&path)).or_default();
        of_method(routes).unwrap_or_else(|| {
            let made = RouteMetrics::new(&self.metrics, &self.exemplars, method, path);
            let made = Arc::new(made);
            routes.push(Arc::clone(&made));
            made
        })
    }
}
