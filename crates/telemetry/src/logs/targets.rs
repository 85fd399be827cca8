//! Hints about log filters with unknown targets. A misspelt target would silently disable a filter.

use crate::service::Service;

/// Targets that are not module paths.
const NAMED_TARGETS: [&str; 3] = [
    super::REQUEST,
    super::panics::TARGET,
    super::bootstrap::TARGET,
];
/// Minimal Jaro-Winkler similarity of a suggestion.
const MIN_SIMILARITY: f64 = 0.75;

/// A hint about a filter with a target that no line has. It does not repeat the text of the filter.
#[must_use]
pub(super) fn hint(filter: &str, service: &Service) -> Option<String> {
    let (at, unknown) = filter
        .split(',')
        .enumerate()
        .filter_map(|(at, directive)| Some((at, target(directive)?)))
        .find(|(_, target)| !exists(target, service))?;
    let similarity = |known: &&str| strsim::jaro_winkler(known, unknown);
    let nearest = known(service)
        .max_by(|one, other| similarity(one).total_cmp(&similarity(other)))
        .filter(|known| similarity(known) >= MIN_SIMILARITY)
        .map_or_else(String::new, |known| format!(" Did you mean `{known}`?"));
    let own: Vec<_> = service.crates().collect();
    let (own, named) = (own.join("`, `"), NAMED_TARGETS.join("`, `"));
    Some(format!(
        "Directive {} names a target that no line has.{nearest} Lines of this service have targets \
         that begin with `{own}`, or `{named}`.",
        at + 1
    ))
}

/// The target of a directive. Directives with only a level or a span have none.
fn target(directive: &str) -> Option<&str> {
    let directive = directive.trim();
    let end = directive.find(['[', '='])?;
    Some(&directive[..end]).filter(|target| !target.is_empty())
}

/// Whether lines can have this target. A filter matches all targets that start with it.
fn exists(target: &str, service: &Service) -> bool {
    let target = target.replace('-', "_");
    // The modules of other packages are not listed, so only the package name is checked.
    let package = target.split("::").next().unwrap_or_default();
    service.packages.contains(&package) && !service.owns(&target)
        || known(service).any(|known| known.starts_with(&target))
}

fn known(service: &Service) -> impl Iterator<Item = &'static str> {
    let modules = service.modules.iter().copied();
    modules
        .chain(NAMED_TARGETS)
        .chain(service.packages.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tests::SERVICE;

    #[test]
    fn the_hint_gives_the_position_of_an_unknown_target() {
        let own = |rest: &str| format!("info,example{rest}=debug");
        for good in [
            "info",
            "off",
            "warn,request=off,panic=error",
            "info,[run]=debug",
            "sqlx::query=debug,h2=trace,opentelemetry-otlp=warn",
            &own(""),
            &own("::http"),
            "telemetry::logs=debug",
        ] {
            assert_eq!(hint(good, &SERVICE), None, "{good}");
        }
        for (bad, place, meant) in [
            (own("::htpt"), "Directive 2 ", "example::http`?".to_owned()),
            (
                "requset=off".to_owned(),
                "Directive 1 ",
                "request`?".to_owned(),
            ),
            (
                "info,sqxl=debug".to_owned(),
                "Directive 2 ",
                "sqlx`?".to_owned(),
            ),
            (
                "zzz=debug".to_owned(),
                "Directive 1 ",
                "begin with".to_owned(),
            ),
        ] {
            let found = hint(&bad, &SERVICE).unwrap();
            assert!(
                found.starts_with(place) && found.contains(&meant),
                "{bad}: {found}"
            );
        }
    }
}
