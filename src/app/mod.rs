//! REPLACE: the example application, and the one place where slices meet.
//!
//! Each slice brings its routes, its metrics and its problem codes; here they are
//! joined to stores, limits and documentation. To make a service of your own,
//! replace the slices below and their lines in this file.

pub mod ledger;
pub mod ping;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use prometheus::Registry;
use tower::util::option_layer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::config::Config;
use crate::identity::access::AccessTokens;
use crate::identity::keyring::Keyring;
use crate::identity::metrics::AttemptCounters;
use crate::identity::store::IdentityStore;
use crate::identity::{self, IdentityMetrics};
use crate::platform::auth::{Authenticator, authenticate};
use crate::platform::clock::SharedClock;
use crate::platform::db::Database;
use crate::platform::http::problem::{self, Code};
use crate::platform::lifecycle::Lifecycle;
use crate::platform::protect::Limits;
use crate::platform::telemetry::metrics::Descriptor;
use crate::platform::workers::{self, Worker, WorkerMetrics};
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
    let Parts {
        config,
        database,
        registry,
        clock,
        lifecycle,
        limits,
    } = parts;
    let identity = identity(config, database, registry, clock)?;
    identity.keyring().watch(lifecycle);
    let authenticator: Arc<dyn Authenticator> = identity.authenticator();
    clean_up(config, registry, lifecycle, Arc::clone(&identity))?;

    let (ping, _) = ping::routes().split_for_parts();
    let (auth, _) = identity::http::auth_routes().split_for_parts();
    let (users, _) = identity::http::user_routes().split_for_parts();
    let (keys, _) = identity::http::key_routes().split_for_parts();
    let auth = auth.layer(option_layer(limits.auth.clone()));
    let users = users.layer(from_fn_with_state(authenticator, authenticate));
    let identity = auth.merge(users).merge(keys).with_state(identity);
    Ok(Router::new().merge(ping).merge(identity))
}

/// Users and tokens, over the database that is configured.
#[must_use]
pub fn identity_store(database: &Database) -> Arc<dyn IdentityStore> {
    match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(db) => Arc::new(identity::store::SqliteIdentityStore::new(
            db.clone(),
            vec![],
        )),
        #[cfg(feature = "postgres")]
        Database::Postgres(db) => Arc::new(identity::store::PostgresIdentityStore::new(
            db.clone(),
            vec![],
        )),
    }
}

fn identity(
    config: &Config,
    database: &Database,
    registry: &Registry,
    clock: SharedClock,
) -> anyhow::Result<Arc<identity::Service>> {
    let attempts = AttemptCounters::new(&IdentityMetrics::register(registry)?);
    let keyring = Keyring::new(&config.auth)?;
    let tokens = AccessTokens::new(&config.auth, keyring, Arc::clone(&clock));
    let store = identity_store(database);
    let service = identity::Service::new(&config.auth, store, tokens, attempts, clock);
    Ok(Arc::new(service))
}

/// Starts the worker that removes what has expired.
fn clean_up(
    config: &Config,
    registry: &Registry,
    lifecycle: &Lifecycle,
    identity: Arc<identity::Service>,
) -> anyhow::Result<()> {
    let metrics = WorkerMetrics::register(registry)?;
    let worker = Worker {
        name: "cleanup",
        interval: config.workers.cleanup_interval,
        deadline: Duration::from_mins(1),
        run: Box::new(move || {
            let identity = Arc::clone(&identity);
            Box::pin(async move {
                let tokens = identity.remove_expired_tokens().await?;
                tracing::debug!(tokens, "removed what had expired");
                Ok(())
            })
        }),
    };
    workers::start(lifecycle, &metrics, worker);
    Ok(())
}

/// The description of every operation, from the handlers themselves.
#[must_use]
pub fn openapi() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(description = "Accounts, deposits and transfers; money as integer minor units."),
        components(schemas(problem::Body, platform::http::FieldError)),
        tags(
            (name = "auth", description = "Registration, login, tokens and their keys"),
            (name = "users", description = "The own account"),
        )
    )]
    struct Document;

    let mut document = Document::openapi();
    for slice in [
        ping::routes().into_openapi(),
        identity::http::auth_routes().into_openapi(),
        identity::http::user_routes().into_openapi(),
        identity::http::key_routes().into_openapi(),
    ] {
        document.merge(slice);
    }
    let components = document.components.get_or_insert_default();
    for (name, scheme) in security_schemes() {
        components.add_security_scheme(name, scheme);
    }
    document
}

/// The two ways to authenticate that operations name in their `security`.
fn security_schemes() -> [(&'static str, SecurityScheme); 2] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token from /api/v1/auth/login (RFC 9068)"))
        .build();
    let api_key = ApiKeyValue::with_description("X-API-Key", "A key of the user's own");
    [
        ("bearer", SecurityScheme::Http(bearer)),
        ("api_key", SecurityScheme::ApiKey(ApiKey::Header(api_key))),
    ]
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
        ("Identity", IdentityMetrics::DESCRIPTORS),
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
    [problem::codes::ALL, identity::http::codes::ALL].concat()
}
