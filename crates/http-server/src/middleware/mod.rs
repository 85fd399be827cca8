//! The middleware order of the public listener, outermost first.
//!
//! Everything that can end a request is inside of layer 1, so that every request is recorded.
//! Authentication and the stricter limits are at the routes that need them, inside of all these
//! layers.

mod admit;
mod header_gate;
mod probe_bypass;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use lifecycle::Lifecycle;
use limits::{Concurrency, ConcurrencyLimits, RateLimits};
use request::problem::codes;
use request::{BodyLimits, Problem};
use tower::ServiceBuilder;
use tower::util::option_layer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::client_address::ClientAddress;
use crate::config::Config;
use crate::connection::Serve;
use crate::guard::GuardLayer;
use crate::middleware::admit::AdmitLayer;
use crate::middleware::header_gate::HeaderGate;
use crate::middleware::probe_bypass::ProbeBypass;
use crate::observe::{Observation, ObserveLayer, Observer, REQUEST_ID, RouteLookup};
use crate::problem::ProblemResponse;
use crate::rate_limit::RateLimitLayer;

/// Puts the layers around all routes and unknown paths. Requests for `probes` bypass the layers.
///
/// `observer` writes the record of every request. Answers in a drain of `lifecycle` close their
/// connection, and requests that are cut are reported to it.
///
/// The layers are around the router as a whole, as one type. As layers of the router, each would
/// cost a box and a clone of the inner service at every request.
pub fn around(
    router: Router,
    probes: Router,
    config: &Config,
    observer: Arc<Observer>,
    rate_limits: &RateLimits,
    lifecycle: Lifecycle,
) -> impl Serve + Sync + use<> {
    let metrics = observer.routes.metrics().clone();
    let router = router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let layered = ServiceBuilder::new()
        // 1. Context, metrics, request line, span. It records refusals of the other layers too.
        .layer(ObserveLayer::new(Observation {
            observer,
            router: RouteLookup::new(&router),
            client_address: Arc::new(ClientAddress::new(
                config.trusted_proxies.clone(),
                config.client_address_header,
            )),
            limits: BodyLimits {
                max_body_bytes: config.max_body_bytes.as_usize(),
                body_timeout: config.body_timeout,
            },
            server_timing: config.server_timing,
            tls: config.tls_cert.is_some(),
            lifecycle,
        }))
        // 2. CORS. It answers preflights, and adds its headers to refusals of the inner layers.
        .layer(option_layer(cors(config)))
        // 3. Load shedding, deadline, panics.
        .layer(GuardLayer::new(
            Concurrency::new(
                ConcurrencyLimits {
                    in_flight: config.max_in_flight,
                    in_flight_per_client: config.max_in_flight_per_client,
                    bodies: config.max_bodies,
                    bodies_per_client: config.max_bodies_per_client,
                },
                metrics.concurrency(),
            ),
            config.request_timeout,
        ))
        // 4. Rate limit by client address, so that refusals are cheap and precede any work.
        .layer(option_layer(RateLimitLayer::new(
            rate_limits.address.as_ref(),
        )))
        // 5. Checks of the head: no host, too long, too large, not acceptable.
        .layer(AdmitLayer {
            max_body_bytes: config.max_body_bytes.as_usize(),
        })
        // 6. Compression of answers. Streams and answers with an ETag are left out.
        .layer(HeaderGate {
            header: header::ACCEPT_ENCODING,
            layer: CompressionLayer::new().compress_when(Compressible),
        })
        // The router's future is large, and each of these layers would move it. Its box is small.
        .map_future(Box::pin)
        .service(router);
    ProbeBypass {
        probes,
        observed: layered,
    }
}

async fn not_found(_: Request<Body>) -> Response {
    let problem = Problem::new(codes::NOT_FOUND, "There is nothing at this path.");
    ProblemResponse(problem).into_response()
}

/// Answers a method that the path does not have. The router adds `Allow`. `OPTIONS` is answered
/// with 204, because there may be no CORS layer that answers it (RFC 9110, section 9.3.7).
async fn method_not_allowed(request: Request<Body>) -> Response {
    if request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let problem = Problem::new(
        codes::METHOD_NOT_ALLOWED,
        "This path does not support the method.",
    );
    ProblemResponse(problem).into_response()
}

fn cors(config: &Config) -> Option<CorsLayer> {
    let origins = &config.cors_allowed_origins;
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        )
    };
    let header_names = |names: &[&'static str]| -> Vec<HeaderName> {
        names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect()
    };
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(header_names(&[
                "authorization",
                "content-type",
                "idempotency-key",
                "if-match",
                "if-none-match",
                "x-api-key",
                "x-request-id",
            ]))
            .expose_headers(
                [
                    vec![REQUEST_ID, header::ETAG, header::RETRY_AFTER],
                    header_names(&["ratelimit"]),
                ]
                .concat(),
            ),
    )
}

/// Selects the answers that are worth compressing.
#[derive(Clone, Copy)]
struct Compressible;

impl Predicate for Compressible {
    fn should_compress<B: http_body::Body>(&self, response: &http::Response<B>) -> bool {
        let headers = response.headers();
        let media_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        // A strong ETag names the exact bytes, which compression would change.
        !headers.contains_key(header::ETAG)
            && !media_type.is_some_and(|media_type| {
                media_type.starts_with("text/event-stream") || media_type.starts_with("image/")
            })
            && response
                .body()
                .size_hint()
                .exact()
                .is_some_and(|size| size >= 1_024)
    }
}
