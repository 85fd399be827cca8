//! The public listener: the routes of the application within the middleware, and the pages of the
//! API's documentation.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use http_server::connection::listener::ReservedPort;
use http_server::connection::tls::{Tls, TlsMetrics};
use http_server::connection::{ListenerConfig, Serve, listener};
use http_server::observe::{Observer, RouteTable};
use http_server::probes::Detail;
use http_server::{middleware, probes};
use settings::Profile;

use super::listeners::listener_config;
use crate::app;
use crate::platform::Platform;

/// The routes of the application within the middleware.
pub(super) fn service(platform: &Platform<'_>, router: Router) -> impl Serve + use<> {
    let (config, telemetry) = (platform.config, platform.telemetry);
    let table = RouteTable::new(
        platform.http_metrics.clone(),
        telemetry.exemplars.clone(),
        platform.operations.clone(),
        app::problem_codes(),
    );
    let observer = Observer::new(
        table,
        telemetry.logs.clone(),
        telemetry.traces.clone(),
        config.telemetry.error_events_per_second,
    );
    middleware::around(
        router.merge(documentation(config.profile)),
        probes::routes(platform.health.clone(), Detail::Status),
        &config.http,
        Arc::new(observer),
        &platform.rate_limits,
        platform.lifecycle.clone(),
    )
}

/// Opens the listener and returns its address.
///
/// # Errors
/// When the certificate cannot be used, or the port cannot be opened.
pub(super) fn open(
    platform: &Platform<'_>,
    service: impl Serve + Sync,
    port: ReservedPort,
) -> anyhow::Result<SocketAddr> {
    let (http, lifecycle) = (&platform.config.http, &platform.lifecycle);
    let mut tls = Tls::new(http.tls_cert.as_ref(), http.tls_key.as_ref())?;
    if let Some(plain) = tls.take() {
        let observed = plain.observed(TlsMetrics::register(platform.registry())?);
        observed.watch(lifecycle);
        tls = Some(observed);
    }
    let (stop, kill) = (lifecycle.soft(), lifecycle.hard());
    let config = listener_config(platform, "public", platform.max_connections, stop, kill);
    let trusted = http.trusted_proxies.clone();
    let config = ListenerConfig {
        tls,
        admission: config
            .admission
            .per_client(http.max_connections_per_client, trusted),
        ..config
    };
    let socket = port.listen("public")?;
    let address = socket.local_addr()?;
    lifecycle.spawn("public listener", listener::serve(socket, service, config));
    Ok(address)
}

/// Swagger UI and its document, both from the binary. In development `/` redirects to it.
fn documentation(profile: Profile) -> Router {
    let pages: Router = utoipa_swagger_ui::SwaggerUi::new("/docs")
        .url("/openapi.json", app::openapi())
        .into();
    match profile {
        Profile::Development => pages.route("/", get(async || Redirect::temporary("/docs"))),
        Profile::Production => pages,
    }
}
