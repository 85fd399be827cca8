//! The admin listener: metrics, probes and switches. It serves from the start of the process to its
//! end.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, header};
use http_server::connection::framing;
use http_server::probes;
use http_server::probes::Detail;
use http_server::problem::ProblemResponse;
use lifecycle::health::Health;
use prometheus::Registry;
use request::Problem;
use request::faults::Faults;
use request::problem::codes;
use settings::{Profile, Secret};
use telemetry::exposition::{self, Exemplars, Format};

use crate::access::{self, Access};
use crate::info::Info;
use crate::metrics::AdminMetrics;
use crate::not_found::not_found;
use crate::profile::Profiler;
use crate::runbooks::{self, Pages};
use crate::switches::Switches;
use crate::{context, faults, page};

/// Data of the admin listener.
#[derive(Clone)]
pub struct Admin {
    /// Registry of the metrics.
    pub registry: Registry,
    /// Sampled traces for the buckets of histograms.
    pub exemplars: Exemplars,
    /// Called before every scrape to update gauges that are read on demand.
    pub before_scrape: Arc<dyn Fn() + Send + Sync>,
    /// Development requires a loopback `Host`, production the token.
    pub profile: Profile,
    /// Bearer token for everything that writes, and for `/debug`.
    pub token: Option<Secret>,
    /// Limit of wrong tokens of one client within a minute.
    pub max_token_guesses: u32,
    /// Metrics of the listener itself.
    pub metrics: AdminMetrics,
    /// Content of `/info`.
    pub info: Info,
    /// Log filter and trace sampling.
    pub switches: Switches,
    /// Present only if faults may be injected.
    pub faults: Option<Faults>,
    /// Profiles of the running process.
    pub profiler: Profiler,
    /// Runbooks of the alerts.
    pub runbooks: Pages,
}

impl Admin {
    /// The routes of the admin listener.
    pub fn routes(self, health: &Health) -> Router {
        let access = Arc::new(Access::new(
            self.profile,
            self.token.as_ref(),
            self.max_token_guesses,
            &self.metrics,
        ));
        let info = self.info.clone().routes();
        let switches = self.switches.clone().routes();
        let profile = self.profiler.clone().routes();
        let faults = self.faults.clone().map(faults::routes);
        let runbooks = runbooks::routes(self.runbooks);
        Router::new()
            .route("/metrics", get(metrics))
            .with_state(self)
            .merge(probes::routes(health.clone(), Detail::Checks))
            .merge(info)
            .merge(page::routes())
            .merge(runbooks)
            .merge(switches)
            .merge(profile)
            .merge(faults.unwrap_or_default())
            .fallback(async || ProblemResponse(not_found()))
            .method_not_allowed_fallback(async || {
                let detail = "This path does not support the method.";
                ProblemResponse(Problem::new(codes::METHOD_NOT_ALLOWED, detail))
            })
            .layer(from_fn(context::default_to_json))
            .layer(from_fn_with_state(access, access::guard))
            .layer(from_fn(framing::guard))
            .layer(from_fn(context::enter))
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    (admin.before_scrape)();
    let format = Format::negotiate(&headers);
    let head = [
        (header::CONTENT_TYPE, format.content_type()),
        (header::VARY, "accept"),
    ];
    match exposition::encode(&admin.registry, &admin.exemplars, format) {
        Ok(page) => (head, page).into_response(),
        Err(error) => ProblemResponse(Problem::internal(error)).into_response(),
    }
}
