//! REPLACE: the example application, and the one place where slices meet.
//!
//! Each slice brings its routes, its metrics and its problem codes; here they are
//! joined to stores, limits and documentation. To make a service of your own,
//! replace the slices below and their lines in this file.

pub mod ledger;
pub mod ping;

use axum::Router;
use prometheus::Registry;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::config::Config;
use crate::platform::clock::SharedClock;
use crate::platform::db::Database;
use crate::platform::http::problem::{self, Code};
use crate::platform::lifecycle::Lifecycle;
use crate::platform::protect::Limits;
use crate::platform::telemetry::metrics::Descriptor;
use crate::platform::{self, db};

/// What the application is built from.
pub struct Parts<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// Behind the stores.
    pub database: &'a Database,
    /// Where metrics are registered.
    pub registry: &'a Registry,
    /// Time.
    pub clock: SharedClock,
    /// Workers are started on it.
    pub lifecycle: &'a Lifecycle,
    /// For the routes that need a stricter one.
    pub limits: &'a Limits,
}

/// The application's routes, without the listener's middleware.
///
/// # Errors
/// When a metric is registered already.
pub fn build(parts: Parts<'_>) -> anyhow::Result<Router> {
    let Parts { .. } = parts;
    let (ping, _) = ping::routes().split_for_parts();
    Ok(Router::new().merge(ping))
}

/// The description of every operation, from the handlers themselves.
#[must_use]
pub fn openapi() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(description = "Accounts, deposits and transfers; money as integer minor units."),
        components(schemas(problem::Body, platform::http::FieldError))
    )]
    struct Document;

    let mut document = Document::openapi();
    for slice in [ping::routes().into_openapi()] {
        document.merge(slice);
    }
    document
}

/// Every metric that the process can show, block by block.
#[must_use]
pub fn catalogue() -> Vec<(&'static str, &'static [Descriptor])> {
    vec![
        ("HTTP", platform::observe::HttpMetrics::DESCRIPTORS),
        ("Database", db::DbMetrics::DESCRIPTORS),
        (
            "Rate limits",
            platform::protect::RateLimitMetrics::DESCRIPTORS,
        ),
        ("Workers", platform::workers::WorkerMetrics::DESCRIPTORS),
        ("Health", platform::health::HealthMetrics::DESCRIPTORS),
        (
            "Lifecycle",
            platform::lifecycle::LifecycleMetrics::DESCRIPTORS,
        ),
        (
            "Telemetry",
            platform::telemetry::TelemetryMetrics::DESCRIPTORS,
        ),
    ]
}

/// Every problem that the process can answer.
#[must_use]
pub fn problem_codes() -> Vec<&'static Code> {
    [problem::codes::ALL].concat()
}
