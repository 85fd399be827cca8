//! The admin listener: metrics and probes, from the first moment to the last.

mod config;
mod page;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;

pub use config::Config;

use crate::platform::health::Health;
use crate::platform::http::Json;
use crate::platform::http::problem::{Problem, codes};
use crate::platform::settings::Profile;

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    /// Where metrics are gathered from.
    pub registry: Registry,
    /// Run before every scrape, for gauges that are read rather than kept.
    pub before_scrape: Arc<dyn Fn() + Send + Sync>,
    /// Development demands a loopback `Host`, against DNS rebinding.
    pub profile: Profile,
}

impl Admin {
    /// The routes of the admin listener.
    pub fn routes(self, health: &Health) -> Router {
        let profile = self.profile;
        Router::new()
            .route("/metrics", get(metrics))
            .route("/info", get(info))
            .with_state(self)
            .merge(health.verbose_routes())
            .merge(page::routes())
            .fallback(|| async { Problem::new(codes::NOT_FOUND, "There is nothing at this path.") })
            .method_not_allowed_fallback(|| async {
                Problem::new(
                    codes::METHOD_NOT_ALLOWED,
                    "The path does not have this method.",
                )
            })
            .layer(axum::middleware::from_fn_with_state(profile, loopback_host))
    }
}

/// A page in a browser can reach a loopback listener through a name that resolves
/// to it; in development nothing else guards the switches.
async fn loopback_host(State(profile): State<Profile>, request: Request, next: Next) -> Response {
    if profile == Profile::Development && !has_loopback_host(&request) {
        let detail = "In development the admin listener answers to loopback hosts only.";
        return Problem::new(codes::FORBIDDEN, detail).into_response();
    }
    next.run(request).await
}

fn has_loopback_host(request: &Request) -> bool {
    let authority = request.uri().authority().cloned().or_else(|| {
        request
            .headers()
            .get(header::HOST)?
            .to_str()
            .ok()?
            .parse::<http::uri::Authority>()
            .ok()
    });
    authority.is_some_and(|authority| {
        let host = authority.host();
        host.eq_ignore_ascii_case("localhost")
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

async fn metrics(State(admin): State<Admin>) -> Response {
    (admin.before_scrape)();
    let mut text = Vec::with_capacity(64 * 1_024);
    if let Err(error) = TextEncoder::new().encode(&admin.registry.gather(), &mut text) {
        return Problem::internal(error).into_response();
    }
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}

async fn info(State(admin): State<Admin>) -> Response {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "revision": crate::platform::telemetry::REVISION,
        "profile": admin.profile.as_str(),
    }))
    .into_response()
}
