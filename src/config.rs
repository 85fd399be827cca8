//! The whole configuration, composed of the sections of all components.

mod grpc;
mod live;

use std::collections::BTreeMap;
use std::path::Path;

use settings::{EffectiveValue, Key, Layers, Problem, Profile, Reader};
use telemetry::LogFormat;

use crate::app;

/// The configuration of the process. It is read once at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the environment (`APP_ENV`).
    pub environment: String,
    /// The profile whose rules the environment follows.
    pub profile: Profile,
    /// Settings that have no effect or probably an unintended one.
    pub warnings: Vec<String>,
    /// `OTEL_*` variables.
    pub otel: BTreeMap<String, String>,
    /// The public listener.
    pub http: http_server::Config,
    /// The admin listener.
    pub admin: admin::Config,
    /// The gRPC listener.
    pub grpc: grpc::Config,
    /// The database.
    pub database: db::Config,
    /// Rate limits.
    pub rate_limit: limits::rate::Config,
    /// Tokens and keys.
    pub auth: identity::Config,
    /// Streams to clients.
    pub live: live::Config,
    /// The shutdown.
    pub lifecycle: lifecycle::Config,
    /// Background work.
    pub workers: workers::Config,
    /// Logs and traces.
    pub telemetry: telemetry::Config,
    /// The example application.
    pub ledger: app::ledger::Config,
}

/// An invalid configuration.
#[derive(Debug)]
pub struct Refused {
    /// Every problem, each with its key and the source of the value.
    pub problems: Vec<Problem>,
    /// Format of the lines that report the problems: the configured one, or the default if that is
    /// a problem.
    pub log_format: LogFormat,
}

/// The keys of every section, in the order of the documentation.
pub const SECTIONS: &[&[Key]] = &[
    http_server::Config::KEYS,
    admin::Config::KEYS,
    grpc::Config::KEYS,
    db::Config::KEYS,
    limits::rate::Config::KEYS,
    identity::Config::KEYS,
    live::Config::KEYS,
    lifecycle::Config::KEYS,
    workers::Config::KEYS,
    telemetry::Config::KEYS,
    app::ledger::Config::KEYS,
];

impl Config {
    /// Reads files and the environment of this process.
    ///
    /// # Errors
    /// Every problem, each with its key and the source of the value.
    pub fn load() -> Result<(Self, Vec<EffectiveValue>), Refused> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only place that reads the environment"
        )]
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::read(Layers::load(
            Path::new("config"),
            Path::new(".env"),
            environment,
        ))
    }

    /// Reads merged layers.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(layers: Layers) -> Result<(Self, Vec<EffectiveValue>), Refused> {
        let mut reader = Reader::new(layers).for_service(crate::SERVICE.name);
        let config = Self {
            environment: reader.environment().name.clone(),
            profile: reader.profile(),
            warnings: reader.warnings(&telemetry::variable_names()),
            otel: reader.otel().clone(),
            http: http_server::Config::read(&mut reader),
            admin: admin::Config::read(&mut reader),
            grpc: grpc::Config::read(&mut reader),
            database: db::Config::read(&mut reader),
            rate_limit: limits::rate::Config::read(&mut reader),
            auth: identity::Config::read(&mut reader),
            live: live::Config::read(&mut reader),
            lifecycle: lifecycle::Config::read(&mut reader),
            workers: workers::Config::read(&mut reader),
            telemetry: telemetry::Config::read(&mut reader),
            ledger: app::ledger::Config::read(&mut reader),
        };
        config.http.validate(&mut reader);
        config.admin.validate(&mut reader);
        config.database.validate(&mut reader);
        config.rate_limit.validate(&mut reader);
        config.auth.validate(&mut reader);
        identity::bootstrap::validate(&config.auth, &mut reader);
        match reader.finish() {
            Ok(effective) => Ok((config, effective)),
            Err(problems) => Err(Refused {
                problems,
                log_format: config.telemetry.log_format,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let nowhere = Path::new("/nonexistent/by/name");
        Config::read(Layers::load(nowhere, nowhere, environment))
            .map(|(config, _)| config)
            .map_err(|refused| refused.problems)
    }

    #[test]
    fn every_default_parses_in_both_profiles() {
        assert_eq!(read(&[]).unwrap().profile, Profile::Development);
        // With all required keys wrong, the others are read from their defaults.
        let problems = read(&[("APP_ENV", "production")]).unwrap_err();
        let keys: Vec<_> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(keys, ["database.url", "auth.keys"]);
    }

    #[test]
    fn every_key_that_is_documented_is_read() {
        for key in SECTIONS.iter().copied().flatten() {
            let variable = format!("APP__{}", key.path.to_uppercase().replace('.', "__"));
            let problems =
                read(&[(&variable, "\u{0}")]).map_or_else(|problems| problems, |_| vec![]);
            let unknown = problems
                .iter()
                .any(|problem| problem.why.contains("not a known key"));
            assert!(!unknown, "{variable}");
        }
    }
}
