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

/// The filter with each directive for the service repeated for the service's other
/// crates: `example=debug` is about all of its code. A crate that has a directive of its
/// own keeps it.
pub(super) fn widen(filter: &str, service: &Service) -> String {
    let named: Vec<&str> = filter.split(',').filter_map(target).collect();
    let mut directives: Vec<String> = Vec::new();
    for directive in filter.split(',') {
        directives.push(directive.to_owned());
        let Some(target) = target(directive) else {
            continue;
        };
        if target.replace('-', "_") != service.name.replace('-', "_") {
            continue;
        }
        let (_, rest) = directive.trim().split_at(target.len());
        let others = service.crates().filter(|other| !named.contains(other));
        directives.extend(others.map(|other| format!("{other}{rest}")));
    }
    directives.join(",")
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
    fn a_directive_for_the_service_is_about_all_of_its_crates() {
        for (given, meant) in [
            ("info", "info"),
            ("info,example=debug", "info,example=debug,telemetry=debug"),
            (
                "example[run]=debug",
                "example[run]=debug,telemetry[run]=debug",
            ),
            (
                "example=debug,telemetry=warn",
                "example=debug,telemetry=warn",
            ),
            ("example::http=debug", "example::http=debug"),
            ("h2=trace", "h2=trace"),
        ] {
            assert_eq!(widen(given, &SERVICE), meant, "{given}");
        }
    }

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
