//! Which targets a log filter can name: a misspelt one is a filter without effect, and
//! nobody is told.

use std::iter::once;

// MODULES, each with `::` before it, and PACKAGES; from the build script.
include!(concat!(env!("OUT_DIR"), "/targets.rs"));

/// The first segment of the targets of this crate.
const CRATE: &str = env!("CARGO_CRATE_NAME");
/// Targets that are no module.
const NAMED: [&str; 3] = [super::REQUEST, super::panics::TARGET, super::before::TARGET];
/// From which likeness on a name is offered; 1 is the same.
const ALIKE: f64 = 0.75;

/// What to say about a filter that names a target which no line has. The filter's own
/// text is not repeated.
#[must_use]
pub fn hint(filter: &str) -> Option<String> {
    let (at, unknown) = filter
        .split(',')
        .enumerate()
        .filter_map(|(at, directive)| Some((at, target(directive)?)))
        .find(|(_, target)| !exists(target))?;
    let likeness = |known: &String| strsim::jaro_winkler(known, unknown);
    let nearest = known()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|known| likeness(known) >= ALIKE)
        .map_or_else(String::new, |known| format!(" Did you mean `{known}`?"));
    let named = NAMED.join("`, `");
    Some(format!(
        "Directive {} names a target that no line has.{nearest} Lines of this service have targets \
         that begin with `{CRATE}`, or `{named}`.",
        at + 1
    ))
}

/// The target of a directive; a level alone, or a span alone, has none.
fn target(directive: &str) -> Option<&str> {
    let directive = directive.trim();
    let end = directive.find(['[', '='])?;
    Some(&directive[..end]).filter(|target| !target.is_empty())
}

/// A filter takes a target for the beginning of those of lines.
fn exists(target: &str) -> bool {
    let target = target.replace('-', "_");
    // Modules of other packages are not known here.
    let (package, _) = target.split_once("::").unwrap_or((&target, ""));
    PACKAGES.contains(&package) && package != CRATE
        || known().any(|known| known.starts_with(&target))
}

fn known() -> impl Iterator<Item = String> {
    let own = once("").chain(MODULES.iter().copied());
    let own = own.map(|module| format!("{CRATE}{module}"));
    let others = NAMED.iter().chain(PACKAGES).map(|name| (*name).to_owned());
    own.chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_no_line_has_is_named_by_its_place() {
        let own = |rest: &str| format!("info,{CRATE}{rest}=debug");
        for good in [
            "info",
            "off",
            "warn,request=off,panic=error",
            "info,[run]=debug",
            "sqlx::query=debug,h2=trace,opentelemetry-otlp=warn",
            &own(""),
            &own("::platform"),
            &own("::platform::protect::limit"),
            &own("::identity"),
        ] {
            assert_eq!(hint(good), None, "{good}");
        }
        for (bad, place, meant) in [
            (
                own("::platfrom"),
                "Directive 2 ",
                format!("{CRATE}::platform`?"),
            ),
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
            let told = hint(&bad).unwrap();
            assert!(
                told.starts_with(place) && told.contains(&meant),
                "{bad}: {told}"
            );
        }
    }
}
