//! Identity of the service in its telemetry.

/// Name, version, modules and packages of the service.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// `service.name` of every signal. The operator can override it.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
    /// Revision of the sources: the commit of the checkout, or the value that the build was given.
    pub revision: &'static str,
    /// Module paths of the service and its crates (`crate`, `crate::module`), which are the targets
    /// of log lines. Spans of these crates are exported.
    pub modules: &'static [&'static str],
    /// Names of all packages of the build, which are targets of their log lines.
    pub packages: &'static [&'static str],
}

impl Service {
    /// Whether a target belongs to the service.
    pub(crate) fn owns(&self, target: &str) -> bool {
        let crate_name = target.split("::").next();
        crate_name.is_some_and(|name| self.modules.contains(&name))
    }

    /// The crate names among the modules.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &'static str> {
        let crates = self.modules.iter().copied();
        crates.filter(|module| !module.contains("::"))
    }

    /// `User-Agent` of the exporters: the service name before the exporter name, as recommended by
    /// the OTLP specification.
    pub(crate) fn user_agent(&self) -> String {
        let Self { name, version, .. } = self;
        format!("{name}/{version} OTel-OTLP-Exporter-Rust/{version}")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Service;

    /// A service with two crates.
    pub(crate) const SERVICE: Service = Service {
        name: "example",
        version: "1.2.3",
        revision: "0123456789",
        modules: &["example", "example::http", "telemetry", "telemetry::logs"],
        packages: &["example", "h2", "opentelemetry_otlp", "sqlx", "telemetry"],
    };

    #[test]
    fn targets_of_other_crates_are_not_owned() {
        assert!(SERVICE.owns("example::http::page"));
        assert!(SERVICE.owns("telemetry"));
        assert!(!SERVICE.owns("h2"));
        assert!(!SERVICE.owns("examples"));
        assert_eq!(
            SERVICE.crates().collect::<Vec<_>>(),
            ["example", "telemetry"]
        );
    }

    #[test]
    fn exporters_name_the_service_first() {
        let agent = SERVICE.user_agent();
        assert_eq!(agent, "example/1.2.3 OTel-OTLP-Exporter-Rust/1.2.3");
    }
}
