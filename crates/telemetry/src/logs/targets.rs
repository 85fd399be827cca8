//! Which targets a log filter can name: a misspelt one is a filter without effect, and
//! nobody is told.

use crate::service::Service;

/// Targets that are no module.
const NAMED: [&str; 3] = [super::REQUEST, super::panics::TARGET, super::before::TARGET];
/// From which likeness on a name is offered; 1 is the same.
const ALIKE: f64 = 0.75;

/// What to say about a filter that names a target which no line has. The filter's own
/// text is not repeated.
#[must_use]
pub(super) fn hint(filter: &str, service: &Service) -> Option<String> {
    let (at, unknown) = filter
        .split(',')
        .enumerate()
        .filter_map(|(at, directive)| Some((at, target(directive)?)))
        .find(|(_, target)| !exists(target, service))?;
    let likeness = |known: &&str| strsim::jaro_winkler(known, unknown);
    let nearest = known(service)
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|known| likeness(known) >= ALIKE)
        .map_or_else(String::new, |known| format!(" Did you mean `{known}`?"));
    let own: Vec<_> = service.crates().collect();
    let (own, named) = (own.join("`, `"), NAMED.join("`, `"));
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

/// The target of a directive; a level alone, or a span alone, has none.
fn target(directive: &str) -> Option<&str> {
    let directive = directive.trim();
    let end = directive.find(['[', '='])?;
    Some(&directive[..end]).filter(|target| !target.is_empty())
}

/// A filter takes a target for the beginning of those of lines.
fn exists(target: &str, service: &Service) -> bool {
    let target = target.replace('-', "_");
    // Modules of other packages are not known here.
    let package = target.split("::").next().unwrap_or_default();
    service.packages.contains(&package) && !service.owns(&target)
        || known(service).any(|known| known.starts_with(&target))
}

fn known(service: &Service) -> impl Iterator<Item = &'static str> {
    let modules = service.modules.iter().copied();
    modules.chain(NAMED).chain(service.packages.iter().copied())
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
    fn a_target_that_no_line_has_is_named_by_its_place() {
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
            let told = hint(&bad, &SERVICE).unwrap();
            assert!(
                told.starts_with(place) && told.contains(&meant),
                "{bad}: {told}"
            );
        }
    }
}
