//! The whole configuration, composed of the sections of all components.

mod grpc;
mod live;

use std::collections::BTreeMap;
use std::path::Path;

use settings::{EffectiveValue, Layers, Problem, Profile, Reader, SettingKey};
use telemetry::LogFormat;

use crate::app::ledger;

/// Composes the configuration of the process from the sections of its components. Each is named
/// once, in the order of the documentation.
macro_rules! compose {
    ($( $(#[doc = $doc:literal])+ $field:ident: $section:ty, )+) => {
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
            $( $(#[doc = $doc])+ pub $field: $section, )+
        }

        /// The keys of every section.
        pub const SECTIONS: &[&[SettingKey]] = &[$( <$section>::KEYS ),+];

        impl Config {
            fn read_sections(reader: &mut Reader) -> Self {
                Self {
                    environment: reader.environment().name.clone(),
                    profile: reader.profile(),
                    warnings: reader.warnings(&telemetry::variable_names()),
                    otel: reader.otel().clone(),
                    $( $field: <$section>::read(reader), )+
                }
            }
        }
    };
}

compose! {
    /// The public listener.
    http: http_server::Config,
    /// The admin listener.
    admin: admin::Config,
    /// The gRPC listener.
    grpc: grpc::Config,
    /// The database.
    database: db::Config,
    /// Rate limits.
    rate_limit: limits::rate::Config,
    /// Tokens and keys.
    auth: identity::Config,
    /// Outside issuers.
    oidc: identity::oidc::Config,
    /// Streams to clients.
    live: live::Config,
    /// The shutdown.
    lifecycle: lifecycle::Config,
    /// Background work.
    workers: workers::Config,
    /// Logs and traces.
    telemetry: telemetry::Config,
    /// The example application.
    ledger: ledger::Config,
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
        let config = Self::read_sections(&mut reader);
        config.oidc.validate(&config.auth.issuer, &mut reader);
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
