//! The route of a request, and the instruments of that route.
//!
//! The layers around the router need the route, even of a request that they refuse. A layer inside
//! of the router has it, but costs a box, a clone of the handler and one more future at every
//! request. So templates of documented operations are matched here, with the crate that the router
//! uses. For any other path the router itself is called.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::{Method, Request, Uri};
use request::UNMATCHED;
use request::problem::Code;
use telemetry::exposition::Exemplars;
use tower::Service;

use crate::observe::metrics::{HttpMetrics, RouteMetrics, Timing, Timings};
use crate::observe::request_head::{METHODS, method_index};

/// Reasons for refusing requests and connections.
const SHED_REASONS: [&str; 7] = [
    "in_flight",
    "client_in_flight",
    "bodies",
    "client_bodies",
    "connections",
    "client_connections",
    "file_descriptors",
];

/// The instruments of a route, by position in [`METHODS`].
type OfMethods = [OnceLock<Arc<RouteMetrics>>; METHODS.len()];

/// A route.
struct Template {
    path: Arc<str>,
    methods: OfMethods,
}

/// All routes that were seen. The table is bounded, because methods and templates are.
pub struct RouteTable {
    timings: Arc<Timings>,
    documented: matchit::Router<Arc<Template>>,
    templates: Mutex<HashMap<Arc<str>, Arc<Template>>>,
    unmatched: Arc<Template>,
}

impl RouteTable {
    /// A table with the series of every documented operation at zero (latency, `500` and `503`),
    /// and with a counter for every problem code.
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
        for reason in SHED_REASONS {
            metrics.shed.with_label_values(&[reason]);
        }
        for listener in ["public", "admin"] {
            metrics.connections.with_label_values(&[listener]);
        }
        // The labels of the timing of requests that no handler has answered.
        let refused = Timing::new(&metrics, &exemplars, "other", UNMATCHED);
        let mut table = Self {
            timings: Arc::new(Timings {
                metrics,
                exemplars,
                refused,
            }),
            documented: matchit::Router::new(),
            templates: Mutex::default(),
            unmatched: Arc::new(Template::new(UNMATCHED)),
        };
        for (method, path) in operations {
            let template = table.template(&path);
            let index = METHODS.iter().position(|known| *known == method);
            let route = table.instruments(&template, index.unwrap_or_default());
            // Insertion fails when the template is present already or when no router would accept
            // it.
            let _known = table.documented.insert(path, template);
            route.serve();
            for status in [500, 503] {
                route.count(status, 0);
            }
        }
        table
    }

    /// The metrics that all routes share.
    #[must_use]
    pub fn metrics(&self) -> &HttpMetrics {
        &self.timings.metrics
    }

    /// The instruments of the route that `router` has for a request.
    pub(crate) fn find(
        &self,
        router: &RouteLookup,
        method: &Method,
        uri: &Uri,
    ) -> Arc<RouteMetrics> {
        if let Ok(found) = self.documented.at(uri.path()) {
            return self.instruments(found.value, method_index(method));
        }
        self.undocumented(router, method, uri)
    }

    fn undocumented(&self, router: &RouteLookup, method: &Method, uri: &Uri) -> Arc<RouteMetrics> {
        let method_index = method_index(method);
        match router.template(method, uri) {
            Some(path) => self.instruments(&self.template(path.as_str()), method_index),
            None => self.instruments(&self.unmatched, method_index),
        }
    }

    fn template(&self, path: &str) -> Arc<Template> {
        let templates = self.templates.lock();
        let mut templates = templates.unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = templates.get(path) {
            return Arc::clone(template);
        }
        let template = Arc::new(Template::new(path));
        templates.insert(Arc::clone(&template.path), Arc::clone(&template));
        template
    }

    fn instruments(&self, template: &Template, method: usize) -> Arc<RouteMetrics> {
        let made = || {
            let (timings, path) = (Arc::clone(&self.timings), Arc::clone(&template.path));
            Arc::new(RouteMetrics::new(timings, METHODS[method], path))
        };
        Arc::clone(template.methods[method].get_or_init(made))
    }
}

impl Template {
    fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            methods: OfMethods::default(),
        }
    }
}

/// A copy of a router whose handlers only return the route.
pub struct RouteLookup(Router);

impl RouteLookup {
    /// Copies the routes of `router`.
    #[must_use]
    pub fn new(router: &Router) -> Self {
        Self(
            router
                .clone()
                .layer(tower::layer::layer_fn(|_| RouteReporter)),
        )
    }

    fn template(&self, method: &Method, uri: &Uri) -> Option<MatchedPath> {
        let mut request = Request::new(Body::empty());
        request.method_mut().clone_from(method);
        request.uri_mut().clone_from(uri);
        let told = self.0.clone().call(request).now_or_never()?;
        let mut response = told.unwrap_or_else(|never| match never {});
        response.extensions_mut().remove::<MatchedPath>()
    }
}

/// The service in place of a handler. It returns the route.
#[derive(Clone, Copy)]
struct RouteReporter;

impl Service<Request<Body>> for RouteReporter {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut response = Response::default();
        if let Some(matched) = request.extensions_mut().remove::<MatchedPath>() {
            response.extensions_mut().insert(matched);
        }
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use prometheus::Registry;

    use super::*;

    #[test]
    fn a_documented_route_is_found_and_about_others_the_router_is_asked() {
        let handler = get(|| async {});
        let router = Router::new()
            .route("/a/{id}", handler.clone())
            .route("/undocumented", handler.clone())
            .nest("/nested", Router::new().route("/{*rest}", handler));
        let asked = RouteLookup::new(&router);
        let metrics = HttpMetrics::register(&Registry::new()).unwrap();
        let operations = [("GET", "/a/{id}".to_owned())];
        let table = RouteTable::new(metrics, Exemplars::default(), operations, []);
        for (path, template) in [
            ("/a/1", "/a/{id}"),
            ("/a/1/b", UNMATCHED),
            ("/undocumented?x=1", "/undocumented"),
            ("/nested/x/y", "/nested/{*rest}"),
            ("/", UNMATCHED),
        ] {
            for method in [Method::GET, Method::OPTIONS] {
                let found = table.find(&asked, &method, &path.parse().unwrap());
                assert_eq!(&**found.path(), template, "{path}");
            }
        }
    }

    #[test]
    fn instruments_are_made_once() {
        let metrics = HttpMetrics::register(&Registry::new()).unwrap();
        let operations = [("GET", "/a".to_owned()), ("PUT", "/a".to_owned())];
        let table = RouteTable::new(metrics, Exemplars::default(), operations, []);
        let asked = RouteLookup::new(&Router::new());
        let find = |method: &Method| table.find(&asked, method, &Uri::from_static("/a"));
        assert!(Arc::ptr_eq(&find(&Method::GET), &find(&Method::GET)));
        assert!(!Arc::ptr_eq(&find(&Method::GET), &find(&Method::PUT)));
    }
}
