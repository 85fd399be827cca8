//! REPLACE: the example application, and the only place where slices meet.
//!
//! Each slice provides its routes, metrics and problem codes. This file connects them to stores,
//! limits and documentation. For another service, replace the slices below and their lines in this
//! file.

pub mod ledger;
pub mod ping;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use db::Database;
use http_server::RateLimitLayer;
use http_server::authenticate::AuthenticateLayer;
use http_server::description;
use http_server::fault_layer::FaultLayer;
use http_server::problem;
use identity::access::AccessTokens;
use identity::keyring::Keyring;
use identity::oidc::{ProviderAuthenticator, Providers};
use identity::store::{ErasureHook, IdentityStore};
use identity::throttle::PasswordThrottle;
use identity::{self, IdentityMetrics};
use request::faults::{FaultMetrics, Faults};
use request::problem::Code;
use request::{Authenticator, Scope};
use settings::clock::SharedClock;
use telemetry::metrics::Descriptor;
use tower::ServiceBuilder;
use tower::util::option_layer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use workers::{self, NextRun, Trigger, Worker};

#[cfg(feature = "postgres")]
use identity::store::PostgresIdentityStore;
#[cfg(feature = "sqlite")]
use identity::store::SqliteIdentityStore;

#[cfg(feature = "postgres")]
use crate::app::ledger::store::postgres::PostgresLedger;
#[cfg(feature = "sqlite")]
use crate::app::ledger::store::sqlite::SqliteLedger;
use crate::app::ledger::{Ledger, store::LedgerStore};
use crate::platform::Platform;

/// The stores of all slices on the configured database.
pub struct Stores {
    /// Users and tokens.
    pub identity: Arc<dyn IdentityStore>,
    /// Accounts, transfers and idempotency keys.
    pub ledger: Arc<dyn LedgerStore>,
}

impl Stores {
    /// Creates the stores. Only this function selects the backend behind the traits.
    #[must_use]
    pub fn new(database: &Database, clock: &SharedClock) -> Self {
        database.declare(&identity::store::QUERY_TYPES);
        database.declare(&ledger::store::QUERY_TYPES);
        match database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(db) => {
                let ledger = Arc::new(SqliteLedger::new(db.clone(), Arc::clone(clock)));
                let hooks: Vec<Arc<dyn ErasureHook<_>>> = vec![ledger.clone()];
                let identity = Arc::new(SqliteIdentityStore::new(db.clone(), hooks));
                Self { identity, ledger }
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(db) => {
                let ledger = Arc::new(PostgresLedger::new(db.clone(), Arc::clone(clock)));
                let hooks: Vec<Arc<dyn ErasureHook<_>>> = vec![ledger.clone()];
                let identity = Arc::new(PostgresIdentityStore::new(db.clone(), hooks));
                Self { identity, ledger }
            }
        }
    }
}

/// The application's routes, without the listener's middleware.
///
/// # Errors
/// When a metric is registered already, or the signing keys cannot be read.
pub fn build(platform: &Platform<'_>, stores: &Stores) -> anyhow::Result<Router> {
    let metrics = IdentityMetrics::register(platform.registry())?;
    let identity = identity(platform, stores, &metrics)?;
    let authenticator = authenticator(platform, &identity, &metrics)?;
    let ledger = ledger(platform, stores)?;
    clean_up(platform, Arc::clone(&identity), ledger.clone());

    // Outermost first. Authentication runs before the limit that counts by principal.
    let protected = ServiceBuilder::new()
        .layer(AuthenticateLayer {
            authenticator,
            accept_cookie: platform.config.auth.browser_sessions,
        })
        .layer(option_layer(RateLimitLayer::new(
            platform.rate_limits.principal.as_ref(),
        )));
    let credentials = option_layer(RateLimitLayer::new(platform.rate_limits.auth.as_ref()));

    let faults = platform.injectable_faults();
    let ping = router(ping::routes(), faults);
    let auth = router(identity::http::auth_routes(), faults).layer(credentials);
    let keys = router(identity::http::key_routes(), faults);
    let users = router(identity::http::user_routes(), faults).layer(protected.clone());
    let administration =
        router(identity::http::administration_routes(), faults).layer(protected.clone());
    let ledger = router(ledger::http::routes(), faults)
        .layer(protected)
        .with_state(ledger);
    Ok(ping
        .merge(
            auth.merge(keys)
                .merge(users)
                .merge(administration)
                .with_state(identity),
        )
        .merge(ledger))
}

/// The routes of a slice. Faults are the innermost layer, because they replace the handlers.
/// Without fault injection the layer is absent.
fn router<S: Clone + Send + Sync + 'static>(
    documented: OpenApiRouter<S>,
    faults: Option<&Faults>,
) -> Router<S> {
    let routes = documented.split_for_parts().0;
    match faults {
        Some(faults) => routes.layer(FaultLayer(faults.clone())),
        None => routes,
    }
}

fn identity(
    platform: &Platform<'_>,
    stores: &Stores,
    metrics: &IdentityMetrics,
) -> anyhow::Result<Arc<identity::Service>> {
    let config = &platform.config.auth;
    let throttle = PasswordThrottle::new(&platform.rate_limits);
    let keyring = Keyring::new(config)?;
    keyring.watch(&platform.lifecycle);
    let clock = Arc::clone(&platform.clock);
    let tokens = AccessTokens::new(config, keyring, Arc::clone(&clock));
    let store = Arc::clone(&stores.identity);
    Ok(Arc::new(identity::Service::new(
        config,
        store,
        tokens,
        metrics,
        throttle,
        scopes(),
        clock,
    )))
}

/// Authenticates tokens of this service, and of outside issuers if there are any.
fn authenticator(
    platform: &Platform<'_>,
    identity: &identity::Service,
    metrics: &IdentityMetrics,
) -> anyhow::Result<Arc<dyn Authenticator>> {
    let (own, config) = (identity.authenticator(), &platform.config.oidc);
    if config.issuers.is_empty() {
        return Ok(own);
    }
    let client = |limits, tls| platform.client("identity_provider", limits, tls);
    let providers = Providers::new(config, client, metrics, &platform.clock)?;
    providers.start(&platform.lifecycle, &platform.health);
    Ok(Arc::new(ProviderAuthenticator::new(
        own, providers, metrics,
    )))
}

fn ledger(platform: &Platform<'_>, stores: &Stores) -> anyhow::Result<Ledger> {
    let (store, clock) = (Arc::clone(&stores.ledger), Arc::clone(&platform.clock));
    let config = &platform.config.ledger;
    Ok(Ledger::new(config, store, clock, platform.registry())?)
}

/// Starts the worker that removes expired data.
fn clean_up(platform: &Platform<'_>, identity: Arc<identity::Service>, ledger: Ledger) {
    platform.workers.start(Worker {
        name: "cleanup",
        trigger: Trigger::Interval(platform.config.workers.cleanup_interval),
        deadline: Duration::from_mins(1),
        exclusive: true,
        run: Box::new(move || {
            let (identity, ledger) = (Arc::clone(&identity), ledger.clone());
            Box::pin(async move {
                let tokens = identity.remove_expired_tokens().await?;
                if workers::stopping() {
                    return Ok(NextRun::AsScheduled);
                }
                let idempotency_keys = ledger.remove_expired_idempotency_keys().await?;
                tracing::debug!(
                    tokens,
                    idempotency_keys,
                    "removed expired tokens and idempotency keys"
                );
                Ok(NextRun::AsScheduled)
            })
        }),
    });
}

/// The OpenAPI document, generated from the handlers.
#[must_use]
pub fn openapi() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(description = "Accounts, deposits and transfers; money as integer minor units."),
        components(schemas(problem::Body, problem::FieldErrorBody)),
        tags(
            (name = "ping", description = "Whether the API answers"),
            (name = "auth", description = "Registration, login, tokens and their keys"),
            (name = "users", description = "The own account"),
            (name = "sessions", description = "The own logins"),
            (name = "api-keys", description = "Credentials for programs, sent as X-API-Key"),
            (name = "administration", description = "The users of the service, for administrators"),
            (name = "accounts", description = "Accounts of the ledger"),
            (name = "deposits", description = "Money from outside, by administrators"),
            (name = "transfers", description = "Money between accounts"),
        )
    )]
    struct Document;

    let mut document = Document::openapi();
    for slice in [
        ping::routes().into_openapi(),
        identity::http::auth_routes().into_openapi(),
        identity::http::user_routes().into_openapi(),
        identity::http::administration_routes().into_openapi(),
        identity::http::key_routes().into_openapi(),
        ledger::http::routes().into_openapi(),
    ] {
        document.merge(slice);
    }
    // The ledger refuses to erase a user with money.
    for path in ["/api/v1/users/me", "/api/v1/users/{id}"] {
        let user = document.paths.paths.get_mut(path);
        if let Some(erasure) = user.and_then(|user| user.delete.as_mut()) {
            description::add_problems(erasure, &[ledger::http::codes::ACCOUNT_NOT_EMPTY]);
        }
    }
    description::complete(&mut document);
    let components = document.components.get_or_insert_default();
    for (name, scheme) in identity::http::security_schemes() {
        components.add_security_scheme(name, scheme);
    }
    document
}

/// The metrics of the process, by block.
#[must_use]
pub fn catalogue() -> Vec<(&'static str, &'static [Descriptor])> {
    vec![
        ("HTTP", http_server::observe::HttpMetrics::DESCRIPTORS),
        ("TLS", http_server::TlsMetrics::DESCRIPTORS),
        (
            "Connections",
            http_server::connection::ended::ConnectionEnds::DESCRIPTORS,
        ),
        ("Database", db::DbMetrics::DESCRIPTORS),
        ("Rate limits", limits::RateLimitMetrics::DESCRIPTORS),
        ("Outgoing calls", client::ClientMetrics::DESCRIPTORS),
        ("Identity", IdentityMetrics::DESCRIPTORS),
        ("Ledger", ledger::LedgerMetrics::DESCRIPTORS),
        ("Faults", FaultMetrics::DESCRIPTORS),
        ("Workers", workers::WorkerMetrics::DESCRIPTORS),
        ("Admin", admin::AdminMetrics::DESCRIPTORS),
        ("Health", lifecycle::health::HealthMetrics::DESCRIPTORS),
        ("Lifecycle", lifecycle::LifecycleMetrics::DESCRIPTORS),
        ("Telemetry", telemetry::TelemetryMetrics::DESCRIPTORS),
        ("Runtime", telemetry::TokioMetrics::DESCRIPTORS),
        ("Allocator", telemetry::AllocatorMetrics::DESCRIPTORS),
    ]
}

/// The scopes that API keys can have.
#[must_use]
pub fn scopes() -> Vec<Scope> {
    [identity::http::scopes(), ledger::http::scopes()].concat()
}

/// The problem codes of the process.
#[must_use]
pub fn problem_codes() -> Vec<&'static Code> {
    [
        problem::codes::ALL,
        admin::profile::codes::ALL,
        identity::http::codes::ALL,
        ledger::http::codes::ALL,
    ]
    .concat()
}
