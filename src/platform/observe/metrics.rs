//! Metrics of HTTP requests, with handles resolved once a route.

use std::sync::{Arc, OnceLock};

use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use request::UNMATCHED;
use telemetry::exposition::{Exemplar, Exemplars, Slots};
use telemetry::metrics;
use telemetry::metrics::LATENCY;

metrics! {
    /// What clients ask for and what they get. `path` is the route template or
    /// `unmatched`, `method` one of the standard nine or `other`.
    pub struct HttpMetrics {
        /// Requests whose response body has ended; aborted before that, `status` is `499`.
        pub requests: IntCounterVec = "http_requests_total"["method", "path", "status"];
        /// Seconds from the request's head to the end of the response body. A method and path
        /// without a documented operation has its own series once a handler has answered it;
        /// before, such requests are under `other` and `unmatched`, here, in the busy time and
        /// in the bytes. `http_requests_total` has each under its own labels.
        pub duration: HistogramVec = "http_request_duration_seconds"["method", "path"], buckets LATENCY;
        /// Requests in work now.
        pub in_flight: IntGauge = "http_requests_in_flight";
        /// Requests in work at most (`http.max_in_flight`); beyond it they are refused. `http_requests_in_flight` less `http_request_bodies_arriving` over this is the share in use.
        pub in_flight_max: IntGauge = "http_requests_in_flight_max";
        /// Requests of `http_requests_in_flight` whose body is still arriving; they take no place of `http.max_in_flight`.
        pub bodies: IntGauge = "http_request_bodies_arriving";
        /// Request bodies that are awaited at most (`http.max_bodies`); beyond it they are refused.
        pub bodies_max: IntGauge = "http_request_bodies_max";
        /// Open connections by listener: `public` or `admin`.
        pub connections: IntGaugeVec = "http_connections_open"["listener"];
        /// Open connections of the public listener at most; beyond it they are refused. `http.max_connections`, or less where the limit of file descriptors has no room for them.
        pub connections_max: IntGauge = "http_connections_max";
        /// Seconds that a route's requests spent being polled: what the route costs in CPU time.
        pub busy: CounterVec = "http_request_busy_seconds_total"["method", "path"];
        /// Bytes of response bodies, as sent.
        pub response_bytes: IntCounterVec = "http_response_bytes_total"["method", "path"];
        /// Requests and connections that were refused because a limit was reached, by reason. Too many in all: `in_flight`, `connections`, `bodies`; too many of one client: `client_in_flight`, `client_connections`, `client_bodies`; no descriptor: `file_descriptors`.
        pub shed: IntCounterVec = "http_shed_total"["reason"];
        /// Problems that were answered, by their `code` in lower case.
        pub errors: IntCounterVec = "errors_total"["type"];
        /// Error events that were not logged, because there were too many of their kind. The
        /// bound is `telemetry.error_events_per_second`; `http_requests_total` has them all.
        pub error_events_suppressed: IntCounter = "error_events_suppressed_total";
        /// Requests of strangers that carried `X-Forwarded-For` or `Forwarded`; the headers had no effect.
        pub untrusted_forwarded: IntCounter = "client_address_untrusted_forwarded_total";
        /// Requests through trusted proxies that carried an address header that is not read. It is the one of `X-Forwarded-For` and `Forwarded` that is not `http.client_address_header`.
        pub ignored_forwarded: IntCounter = "client_address_ignored_header_total";
        /// Requests through trusted proxies whose client could not be told. `http.client_address_header` was missing beside the other one, or could not be read down to an address. They count for the address of the last proxy that is known.
        pub unreadable_forwarded: IntCounter = "client_address_unreadable_total";
    }
}

/// The costly instruments of one method and route: a histogram is a series a bucket.
pub(super) struct Timing {
    duration: Histogram,
    exemplars: Arc<Slots>,
    busy: Counter,
    response_bytes: IntCounter,
}

impl Timing {
    pub(super) fn new(
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

/// Makes the timing of a method and route that are served, and has the one that refused
/// requests share.
pub(super) struct Timings {
    pub(super) metrics: HttpMetrics,
    pub(super) exemplars: Exemplars,
    pub(super) refused: Timing,
}

/// The instruments of one method and route.
///
/// Answers are counted under their own labels in any case. Time is taken under them only
/// once a handler has answered: strangers choose methods and paths, and each pair would
/// bring a histogram.
pub struct RouteMetrics {
    timings: &'static Timings,
    own: OnceLock<Timing>,
    method: &'static str,
    path: &'static str,
    /// Made for the first span.
    span_name: OnceLock<&'static str>,
    /// By status code less 100; resolved at the first answer with that status.
    statuses: Box<[OnceLock<IntCounter>]>,
}

impl RouteMetrics {
    pub(super) fn new(timings: &'static Timings, method: &'static str, path: &'static str) -> Self {
        Self {
            timings,
            own: OnceLock::new(),
            method,
            path,
            span_name: OnceLock::new(),
            statuses: (100..600).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The route template.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// What spans of this route are called: `{method} {route}`, or the method alone where
    /// there is no route; `HTTP` for a method that is none of the nine.
    pub(super) fn span_name(&self) -> &'static str {
        self.span_name.get_or_init(|| {
            let method = match self.method {
                "other" => "HTTP",
                method => method,
            };
            let name = match self.path {
                UNMATCHED => method.to_owned(),
                route => [method, " ", route].concat(),
            };
            // As long as the route itself.
            name.leak()
        })
    }

    /// Counts an answer with this status; 0 makes its series appear.
    pub(super) fn count(&self, status: u16, answers: u64) {
        let resolve = || {
            let text = status.to_string();
            let requests = &self.timings.metrics.requests;
            requests.with_label_values(&[self.method, self.path, &text])
        };
        match self.statuses.get(usize::from(status).wrapping_sub(100)) {
            Some(slot) => slot.get_or_init(resolve).inc_by(answers),
            None => resolve().inc_by(answers),
        }
    }

    /// Writes the end of a request.
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

    /// Remembers a sampled request as the example of its latency.
    pub fn exemplify(&self, exemplar: Exemplar) {
        let own = self.own.get();
        own.unwrap_or(&self.timings.refused).exemplars.put(exemplar);
    }

    /// Makes the series of the timing appear.
    pub(super) fn serve(&self) -> &Timing {
        self.own.get_or_init(|| {
            let Timings {
                metrics, exemplars, ..
            } = self.timings;
            Timing::new(metrics, exemplars, self.method, self.path)
        })
    }

    /// Where an answer of a pair is timed that has no timing yet. Layers and the router
    /// answer with 4xx and 5xx; below 400 they answer `OPTIONS` alone.
    #[cold]
    fn timing_of(&self, status: u16) -> &Timing {
        if status < 400 && self.method != "OPTIONS" {
            self.serve()
        } else {
            &self.timings.refused
        }
    }
}
