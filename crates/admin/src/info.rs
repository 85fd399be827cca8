//! `/info`: build, profile and start of the process.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http_server::extract::Json;
use serde::Serialize;
use settings::Profile;
use settings::clock::Clock;
use telemetry::Service;
use time::OffsetDateTime;

/// How the binary was built.
#[derive(Debug, Clone)]
pub struct Build {
    /// Version of the compiler.
    pub rust: &'static str,
    /// Features that are compiled in.
    pub features: Vec<&'static str>,
}

/// Facts about the process. It contains no keys of the configuration, and so no secret.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    name: &'static str,
    version: &'static str,
    revision: &'static str,
    /// Version of the compiler.
    rust: &'static str,
    features: Vec<&'static str>,
    /// `APP_ENV`.
    environment: String,
    profile: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    uptime_seconds: f64,
    /// Migrations in this binary, in their order. `readiness_check_up` shows whether they are
    /// applied.
    migrations: Vec<String>,
    #[serde(skip)]
    started: Instant,
}

impl Info {
    /// The facts about a process that starts now.
    #[must_use]
    pub fn new(
        service: &Service,
        build: Build,
        environment: &str,
        profile: Profile,
        clock: &dyn Clock,
        migrations: Vec<String>,
    ) -> Self {
        Self {
            name: service.name,
            version: service.version,
            revision: service.revision,
            rust: build.rust,
            features: build.features,
            environment: environment.to_owned(),
            profile: profile.as_str(),
            started_at: clock.now(),
            uptime_seconds: 0.0,
            migrations,
            started: Instant::now(),
        }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/info", get(show))
            .with_state(Arc::new(self))
    }
}

async fn show(State(info): State<Arc<Info>>) -> impl IntoResponse {
    Json(Info {
        uptime_seconds: info.started.elapsed().as_secs_f64(),
        ..(*info).clone()
    })
}
