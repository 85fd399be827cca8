//! The subcommands that run once and end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use client::{CallError, Client, ClientMetrics};
use db::{Database, DbMetrics, migrate as migrations};
use http::{Request, header};
use hyper_util::rt::TokioIo;
use identity::audit::AuditContext;
use identity::audit_verification::{self, ChainFault, VerifiedChain};
use identity::oidc::Provider;
use identity::store::Promotion;
use limits::RateLimits;
use settings::clock::{Clock as _, SharedClock, SystemClock};
use telemetry::{Exemplars, TelemetryMetrics, Traces};
use uuid::Uuid;

use crate::config::Config;
use crate::{SERVICE, app};

/// Applies the missing migrations. `tell` gets lines about waiting, about files that other users
/// can open, and about the result.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub(crate) async fn migrate(config: &Config, tell: fn(&str)) -> anyhow::Result<()> {
    let database = offline(config)?;
    database.exposed_files().iter().for_each(|line| tell(line));
    let bound = config.database.acquire_timeout;
    let applied = migrations::run(&database, &config.database.url, bound, tell).await?;
    let place = database.place();
    for migration in &applied {
        tell(&format!("applied: {migration}"));
    }
    let known = migrations::known(&database).len();
    tell(&match applied.len() {
        0 => format!("{place}: all {known} migrations were applied before; nothing to do"),
        applied => format!("{place}: {applied} of {known} migrations applied now"),
    });
    close(&database, bound).await;
    Ok(())
}

/// The result of `check`.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// One line for each dependency that failed.
    pub(crate) failures: Vec<String>,
    /// Missing migrations that `serve` applies at its start.
    pub(crate) pending: Vec<String>,
}

/// Reaches every dependency. Every step has a time limit. `tell` gets findings that are not
/// failures but should be fixed.
pub(crate) async fn check(config: &Config, tell: fn(&str)) -> Findings {
    let mut found = Findings::default();
    let database = match offline(config) {
        Ok(database) => database,
        Err(error) => {
            found.failures.push(format!("database: {error:#}"));
            return found;
        }
    };
    database.exposed_files().iter().for_each(|line| tell(line));
    match check_database(config, &database).await {
        Ok(pending) => found.pending = pending,
        Err(failure) => found.failures.push(failure),
    }
    close(&database, config.database.acquire_timeout).await;
    if let Err(error) = RateLimits::check(&config.rate_limit).await {
        found.failures.push(format!("redis: {error:#}"));
    }
    found.failures.extend(check_issuers(config).await);
    found
}

/// Gives a user the role of administrator and returns a line about the result.
///
/// # Errors
/// When the database cannot be reached, lacks migrations or has no such user.
pub(crate) async fn promote(config: &Config, user: Uuid) -> anyhow::Result<String> {
    let database = offline(config)?;
    let outcome = promote_on(config, &database, user).await;
    close(&database, config.database.acquire_timeout).await;
    match outcome? {
        Promotion::Promoted => Ok(format!("{user} is an administrator now")),
        Promotion::AlreadyAdministrator => Ok(format!("{user} is an administrator already")),
        Promotion::NoSuchUser => anyhow::bail!("there is no user {user}"),
    }
}

async fn promote_on(config: &Config, database: &Database, user: Uuid) -> anyhow::Result<Promotion> {
    let stores = migrated_stores(config, database).await?;
    let audit = AuditContext::operator();
    let promotion = stores.identity.promote(user, SystemClock.now(), &audit);
    let promotion = promotion.await;
    promotion.map_err(|error| anyhow::anyhow!("{}: {}", database.place(), error.cause()))
}

/// The stores of a database that lacks no migration.
async fn migrated_stores(config: &Config, database: &Database) -> anyhow::Result<app::Stores> {
    let pending = check_database(config, database).await;
    let pending = pending.map_err(anyhow::Error::msg)?;
    // A command needs them now, even if the service would apply them at its start.
    anyhow::ensure!(pending.is_empty(), missing(&pending));
    let clock: SharedClock = Arc::new(SystemClock);
    Ok(app::Stores::new(database, &clock))
}

/// Verifies the audit trail and returns a line about it. `tell` gets lines about the progress.
///
/// # Errors
/// When the database cannot be reached or lacks migrations, or an event was changed or is missing.
pub(crate) async fn verify_audit(
    config: &Config,
    tell: impl Fn(&str) + Send + Sync,
) -> anyhow::Result<String> {
    let database = offline(config)?;
    let verified = verify_audit_on(config, &database, tell).await;
    close(&database, config.database.acquire_timeout).await;
    let verified = verified?;
    let (first, hash) = (verified.expired_through + 1, verified.hash_text());
    let (rows, last) = (verified.rows, verified.sequence);
    Ok(format!(
        "{rows} audit events are unchanged and complete, from {first} to {last}; the last hash is {hash}"
    ))
}

async fn verify_audit_on(
    config: &Config,
    database: &Database,
    tell: impl Fn(&str) + Send + Sync,
) -> anyhow::Result<VerifiedChain> {
    /// Events between two lines about the progress.
    const PROGRESS: u64 = 100_000;
    let stores = migrated_stores(config, database).await?;
    let progress = |rows: u64| {
        if rows.is_multiple_of(PROGRESS) {
            tell(&format!("{rows} audit events are verified so far"));
        }
    };
    match audit_verification::verify(&*stores.identity, progress).await {
        Ok(verified) => Ok(verified),
        Err(ChainFault::Database(error)) => {
            anyhow::bail!("{}: {}", database.place(), error.cause())
        }
        Err(fault) => anyhow::bail!("audit trail: {fault}"),
    }
}

/// Fetches the keys of every outside issuer. Returns a line for each failure.
async fn check_issuers(config: &Config) -> Vec<String> {
    let client = |limits, tls| {
        // Its metrics are not scraped, and without variables nothing is exported.
        let registry = prometheus::Registry::new();
        let metrics = ClientMetrics::register(&registry).map_err(CallError::request)?;
        let telemetry = TelemetryMetrics::register(&registry).map_err(CallError::request)?;
        let variables = std::collections::BTreeMap::new();
        let traces = Traces::start(SERVICE, &config.telemetry, &variables, &telemetry);
        let traces = traces.map_err(CallError::request)?;
        Client::new("check", &SERVICE, (limits, tls), traces, metrics)
    };
    let mut failures = Vec::new();
    for issuer in &config.oidc.issuers {
        if let Err(error) = Provider::check(issuer, client).await {
            failures.push(format!("identity provider {}: {error}", issuer.name));
        }
    }
    failures
}

/// Checks the database and returns the missing migrations that the start will apply.
async fn check_database(config: &Config, database: &Database) -> Result<Vec<String>, String> {
    let bound = config.database.acquire_timeout;
    let reached = database.reach(bound).await;
    reached.map_err(|error| format!("database: {error}"))?;
    let inspected = database.inspect_pooler(bound).await;
    inspected.map_err(|error| format!("database: {error}"))?;
    let bound = bound + config.database.statement_timeout;
    let place = database.place();
    match tokio::time::timeout(bound, migrations::pending(database)).await {
        Ok(Ok(pending)) if pending.is_empty() || config.database.migrate_on_start => Ok(pending),
        Ok(Ok(pending)) => Err(missing(&pending)),
        Ok(Err(error)) => Err(format!("migrations: {place}: {}", error.cause())),
        Err(_) => Err(format!(
            "migrations: {place} did not answer within {bound:?} (reading the history)"
        )),
    }
}

fn missing(pending: &[String]) -> String {
    format!(
        "migrations: {} are missing; run the migrate subcommand ({})",
        pending.len(),
        pending.join(", ")
    )
}

/// Closes the database. A silent server cannot delay the exit, because the sockets end with the
/// process.
async fn close(database: &Database, bound: Duration) {
    let _closed = tokio::time::timeout(bound, database.close()).await;
}

/// A database whose metrics are not scraped.
fn offline(config: &Config) -> anyhow::Result<Database> {
    let metrics = DbMetrics::register(&prometheus::Registry::new())?;
    Database::new(
        &crate::SCHEMA,
        &config.database,
        Arc::new(metrics),
        Exemplars::default(),
    )
}

/// The URL of the liveness check of a service with this configuration.
#[must_use]
pub(crate) fn liveness_url(config: &Config) -> String {
    let mut address = config.admin.addr;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}/health/live")
}

/// Checks a running service. The only successful answer is 200.
///
/// # Errors
/// When no answer arrives in time, or an answer with another status.
pub(crate) async fn healthcheck(url: &str, timeout: Duration) -> anyhow::Result<()> {
    let status = tokio::time::timeout(timeout, get_status(url))
        .await
        .with_context(|| format!("no answer from {url} within {timeout:?}"))??;
    anyhow::ensure!(status == http::StatusCode::OK, "{url} answered {status}");
    Ok(())
}

/// Returns the status of a plain HTTP `GET`, for the health check of a container.
///
/// # Errors
/// When the URL is invalid or no server answers.
async fn get_status(url: &str) -> anyhow::Result<http::StatusCode> {
    let uri: http::Uri = url.parse().context("not a URL")?;
    let authority = uri.authority().context("the URL has no host")?;
    anyhow::ensure!(
        uri.scheme_str() == Some("http"),
        "only http:// URLs can be asked"
    );
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_matches(['[', ']']);
    let stream = tokio::net::TcpStream::connect((host, port))
        .await
        .context("cannot connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .body(Body::empty())?;
    let answer = async { anyhow::Ok(sender.send_request(request).await?.status()) };
    tokio::select! {
        status = answer => status,
        ended = connection => {
            ended?;
            anyhow::bail!("the connection was closed without an answer")
        }
    }
}
