//! Metrics of HTTP requests. Their handles are resolved once for each route.

use std::sync::{Arc, OnceLock};

use limits::concurrency::ConcurrencyMetrics;
use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use request::UNMATCHED;
use telemetry::exposition::{Exemplar, Exemplars, SeriesExemplars};
use telemetry::metrics;
use telemetry::metrics::LATENCY;

metrics! {
    /// Requests and their answers. `path` is the route template or `unmatched`. `method` is one of
    /// the nine standard methods or `other`.
    pub struct HttpMetrics {
        /// Requests whose response body has ended. `status` is `499` when the request was aborted
        /// before.
        pub requests: IntCounterVec = "http_requests_total"["method", "path", "status"];
        /// Seconds from the request's head to the end of the response body. A method and path
        /// without a documented operation gets its own series when a handler has answered it.
        /// Earlier requests are counted under `other` and `unmatched`, here, in the busy time and
        /// in the bytes. `http_requests_total` counts each under its own labels.
        pub duration: HistogramVec = "http_request_duration_seconds"["method", "path"], buckets LATENCY;
        /// Requests in flight, including those whose body is still arriving.
        pub in_flight: IntGauge = "http_requests_in_flight";
        /// Maximum requests in progress (`http.max_in_flight`). Further requests are refused. The
        /// share in use is `http_requests_in_flight` less `http_request_bodies_arriving`, divided
        /// by this.
        pub in_flight_max: IntGauge = "http_requests_in_flight_max";
        /// Requests in flight whose body is still arriving. They take no permit of
        /// `http.max_in_flight`.
        pub bodies: IntGauge = "http_request_bodies_arriving";
        /// Maximum request bodies that are awaited (`http.max_bodies`). Further requests are
        /// refused.
        pub bodies_max: IntGauge = "http_request_bodies_max";
        /// Open connections by listener. The listeners are `public` and `admin`.
        pub connections: IntGaugeVec = "http_connections_open"["listener"];
        /// Maximum open connections of the public listener. Further connections are refused. The
        /// value is `http.max_connections`, or less when the limit of file descriptors has no room
        /// for it.
        pub connections_max: IntGauge = "http_connections_max";
        /// Seconds that a route's requests spent being polled. They approximate the CPU time of the
        /// route.
        pub busy: CounterVec = "http_request_busy_seconds_total"["method", "path"];
        /// Bytes of response bodies, as sent.
        pub response_bytes: IntCounterVec = "http_response_bytes_total"["method", "path"];
        /// Requests and connections that were refused because a limit was reached, by reason.
        /// `in_flight`, `connections` and `bodies` are limits over all clients. `client_in_flight`,
        /// `client_connections` and `client_bodies` are limits of one client. `file_descriptors`
        /// means that no descriptor was free.
        pub shed: IntCounterVec = "http_shed_total"["reason"];
        /// Problems that were answered, by their `code` in lower case.
        pub errors: IntCounterVec = "errors_total"["type"];
        /// Error events that were not logged because there were too many of their kind. The limit
        /// is `telemetry.error_events_per_second`. `http_requests_total` counts all of them.
        pub error_events_suppressed: IntCounter = "error_events_suppressed_total";
        /// Requests of untrusted peers that carried `X-Forwarded-For` or `Forwarded`. The headers
        /// had no effect.
        pub untrusted_forwarded: IntCounter = "client_address_untrusted_forwarded_total";
        /// Requests through trusted proxies that carried an address header that is not read. It is
        /// the one of `X-Forwarded-For` and `Forwarded` that is not `http.client_address_header`.
        pub ignored_forwarded: IntCounter = "client_address_ignored_header_total";
        /// Requests through trusted proxies whose client address is unknown.
        /// `http.client_address_header` was missing beside the other header, or an element of it
        /// was not an address. The requests count for the address of the last known proxy.
        pub unreadable_forwarded: IntCounter = "client_address_unreadable_total";
    }
}

impl HttpMetrics {
    /// The series that the limits of concurrency change.
    #[must_use]
    pub fn concurrency(&self) -> ConcurrencyMetrics {
        ConcurrencyMetrics {
            shed: self.shed.clone(),
            bodies: self.bodies.clone(),
        }
    }
}

/// The expensive instruments of one method and route. A histogram has one series for each bucket.
pub(crate) struct Timing {
    duration: Histogram,
    exemplars: Arc<SeriesExemplars>,
    busy: Counter,
    response_bytes: IntCounter,
}

impl Timing {
    pub(crate) fn new(
        metrics: &HttpMetrics,
        exemplars: &Exemplars,
        method: &str,
        path: &str,
    ) -> Self {
        let labels = [("method", method), ("path", path)];
        Self {
            duration: metrics.duration.with_label_values(&[method, path]),
            exemplars: exemplars.slots("http_request_duration_seconds", &labels, LATENCY),
            busy: metrics.busy.with_label_values(&[method, path]),
            response_bytes: metrics.response_bytes.with_label_values(&[method, path]),
        }
    }
}

/// Creates the timing of methods and routes that are served. It holds the timing that refused
/// requests share.
pub(crate) struct Timings {
    pub(crate) metrics: HttpMetrics,
    pub(crate) exemplars: Exemplars,
    pub(crate) refused: Timing,
}

/// The instruments of one method and route.
///
/// Answers are always counted under their own labels. Their time is recorded under these labels
/// only after a handler has answered. Clients choose methods and paths, and each pair would add a
/// histogram.
pub struct RouteMetrics {
    timings: Arc<Timings>,
    own: OnceLock<Timing>,
    method: &'static str,
    path: Arc<str>,
    /// Indexed by status code less 100. Each one is resolved at the first answer with that status.
    statuses: Box<[OnceLock<IntCounter>]>,
}

impl RouteMetrics {
    pub(crate) fn new(timings: Arc<Timings>, method: &'static str, path: Arc<str>) -> Self {
        Self {
            timings,
            own: OnceLock::new(),
            method,
            path,
            statuses: (100..600).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The route template.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The name of spans of this route: `{method} {route}`, or the method alone without a route. A
    /// method that is not one of the nine is named `HTTP`.
    pub(crate) fn span_name(&self) -> String {
        let method = match self.method {
            "other" => "HTTP",
            method => method,
        };
        match &*self.path {
            UNMATCHED => method.to_owned(),
            route => format!("{method} {route}"),
        }
    }

    /// Counts answers with this status. A count of 0 creates the series.
    pub(crate) fn count(&self, status: u16, answers: u64) {
        let resolve = || {
            let text = status.to_string();
            let requests = &self.timings.metrics.requests;
            requests.with_label_values(&[self.method, &*self.path, &text])
        };
        match self.statuses.get(usize::from(status).wrapping_sub(100)) {
            Some(slot) => slot.get_or_init(resolve).inc_by(answers),
            None => resolve().inc_by(answers),
        }
    }

    /// Records the end of a request.
    pub fn record(&self, status: u16, seconds: f64, busy_seconds: f64, bytes: u64) {
        self.count(status, 1);
        let timing = match self.own.get() {
            Some(own) => own,
            None => self.timing_of(status),
        };
        timing.duration.observe(seconds);
        timing.busy.inc_by(busy_seconds);
        timing.response_bytes.inc_by(bytes);
    }

    /// Stores a sampled request as the exemplar of its latency.
    pub fn exemplify(&self, exemplar: Exemplar) {
        let own = self.own.get();
        own.unwrap_or(&self.timings.refused).exemplars.put(exemplar);
    }

    /// Creates the series of the timing.
    pub(crate) fn serve(&self) -> &Timing {
        self.own.get_or_init(|| {
            let Timings {
                metrics, exemplars, ..
            } = &*self.timings;
            Timing::new(metrics, exemplars, self.method, &self.path)
        })
    }

    /// The timing of an answer whose method and path have none yet. Layers and the router answer
    /// with 4xx and 5xx, and with a status below 400 only to `OPTIONS`. Other answers come from a
    /// handler.
    fn timing_of(&self, status: u16) -> &Timing {
        if status < 400 && self.method != "OPTIONS" {
            self.serve()
        } else {
            &self.timings.refused
        }
    }
}
