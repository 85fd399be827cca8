//! Turns layered texts into typed values, and collects every problem on the way.

use crate::declare::{Default, Key};
use crate::environment::{Environment, Profile};
use crate::layers::Layers;
use crate::names;
use crate::problem::Problem;
use crate::value::{Leaf, Raw, Setting};

/// One line of the effective configuration.
#[derive(Debug, Clone)]
pub struct Effective {
    /// Dotted key.
    pub key: &'static str,
    /// Value as text; secrets redacted; `None` when unset.
    pub value: Option<String>,
    /// Where the value came from.
    pub source: String,
}

/// A range check; its message says what is allowed.
pub type Check<T> = fn(&T) -> Result<(), String>;

/// Reads keys one after the other and remembers what it saw.
#[derive(Debug)]
pub struct Reader {
    layers: Layers,
    /// What `{service}` in a default stands for.
    service: &'static str,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
    effective: Vec<Effective>,
}

impl Reader {
    /// A reader over layers that were already merged.
    #[must_use]
    pub fn new(mut layers: Layers) -> Self {
        let problems = std::mem::take(&mut layers.problems);
        Self {
            layers,
            service: "service",
            known: Vec::new(),
            problems,
            effective: Vec::new(),
        }
    }

    /// The name of the service, which stands in some defaults.
    #[must_use]
    pub fn for_service(mut self, name: &'static str) -> Self {
        self.service = name;
        self
    }

    /// The profile (`APP_ENV`) that decides between defaults.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.layers.environment.profile
    }

    /// The environment (`APP_ENV`).
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.layers.environment
    }

    /// What is set without effect, and names that are nearly a standard one: `others`
    /// are standard names that other code reads.
    #[must_use]
    pub fn warnings(&self, others: &[String]) -> Vec<String> {
        let mut warnings = self.layers.warnings.clone();
        // Telemetry says itself which of its variables have no effect.
        let variables = self.layers.variables.iter();
        for (name, source) in variables.filter(|(name, _)| !name.starts_with("OTEL_")) {
            if let Some(meant) = names::nearly_standard(name, others) {
                warnings.push(format!("{source} is not read; did you mean {meant}?"));
            }
        }
        warnings
    }

    /// Reads one key. After a problem the default stands in, and the whole
    /// configuration is refused at the end.
    pub fn value<T: Setting>(&mut self, key: Option<&'static Key>, check: Option<Check<T>>) -> T {
        // `settings!` hands over exactly one key a field.
        let Some(key) = key else {
            unreachable!("a field without a key")
        };
        self.known.push(key.path);
        let set = self.layers.leaves.get(key.path).cloned();
        let source = set
            .as_ref()
            .map_or_else(|| "default".to_owned(), |leaf| leaf.source.clone());
        let raw = set
            .map(|Leaf { raw, .. }| raw)
            .or_else(|| default_raw(key, self.profile(), self.service));
        self.effective.push(Effective {
            key: key.path,
            value: raw.as_ref().map(T::render),
            source: source.clone(),
        });
        let value = raw.as_ref().map_or_else(
            || T::absent().ok_or_else(|| "is required and not set".to_owned()),
            T::parse,
        );
        match value.and_then(|value| match check.map_or(Ok(()), |check| check(&value)) {
            Ok(()) => Ok(value),
            Err(why) => Err(why),
        }) {
            Ok(value) => value,
            Err(why) => {
                self.problem(key.path, &source, &why);
                stand_in(key, self.profile(), self.service)
            }
        }
    }

    /// Adds a problem of a rule that spans several keys; names the source of `key`.
    /// A key that is wrong by itself has been reported, and its value is a stand-in.
    pub fn refuse(&mut self, key: &str, why: &str) {
        if self.problems.iter().any(|problem| problem.key == key) {
            return;
        }
        let source = self.source_of(key);
        self.problem(key, &source, why);
    }

    /// Where the value of a key came from.
    #[must_use]
    pub fn source_of(&self, key: &str) -> String {
        self.layers
            .leaves
            .get(key)
            .map_or_else(|| "default".to_owned(), |leaf| leaf.source.clone())
    }

    /// The `OTEL_*` variables as they stand in the environment.
    #[must_use]
    pub fn otel(&self) -> &std::collections::BTreeMap<String, String> {
        &self.layers.otel
    }

    fn problem(&mut self, key: &str, source: &str, why: &str) {
        self.problems.push(Problem {
            key: key.to_owned(),
            source: source.to_owned(),
            why: why.to_owned(),
        });
    }

    /// Ends the reading: keys that nobody asked for are problems as well, and so are
    /// variables that nearly name a key.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn finish(mut self) -> Result<Vec<Effective>, Vec<Problem>> {
        for (key, leaf) in &self.layers.leaves {
            if !self.known.contains(&key.as_str()) {
                self.problems.push(Problem {
                    key: key.clone(),
                    source: leaf.source.clone(),
                    why: self.why_unknown(key),
                });
            }
        }
        for (name, source) in &self.layers.variables {
            if let Some((key, file)) = names::misspelt(name, &self.known) {
                self.problems.push(Problem {
                    key: key.to_owned(),
                    source: source.clone(),
                    why: format!(
                        "is set by another name; write {}{file}, with two underscores between levels",
                        names::variable(key)
                    ),
                });
            }
        }
        if self.problems.is_empty() {
            Ok(self.effective)
        } else {
            Err(self.problems)
        }
    }

    fn why_unknown(&self, key: &str) -> String {
        let below = |whole: &str, part: &str| {
            whole
                .strip_prefix(part)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        if let Some(member) = self.known.iter().find(|known| below(known, key)) {
            return format!(
                "is a section and has no value of its own; `{member}` is one of its keys"
            );
        }
        if let Some(value) = self.known.iter().find(|known| below(key, known)) {
            return format!("is not a known key; `{value}` is a value, not a section");
        }
        let nearest = self
            .known
            .iter()
            .map(|known| (strsim::jaro_winkler(key, known), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(similarity, _)| *similarity > 0.85);
        match nearest {
            Some((_, known)) => {
                let variable = names::variable(known);
                format!("is not a known key; did you mean `{known}` ({variable})?")
            }
            None => "is not a known key".to_owned(),
        }
    }
}

fn default_raw(key: &Key, profile: Profile, service: &str) -> Option<Raw> {
    let text = match (key.default, profile) {
        (Default::Same(text), _)
        | (
            Default::PerProfile {
                development: text, ..
            }
            | Default::DevelopmentOnly(text),
            Profile::Development,
        )
        | (
            Default::PerProfile {
                production: text, ..
            },
            Profile::Production,
        ) => text,
        (Default::DevelopmentOnly(_), Profile::Production) | (Default::Unset, _) => return None,
    };
    Some(Raw::text(text.replace("{service}", service)))
}

/// A value to go on with after a problem, while the others are looked for.
/// Defaults are literals beside their type and a test reads every one, so that
/// this cannot fail in a release.
fn stand_in<T: Setting>(key: &Key, profile: Profile, service: &str) -> T {
    let raw = default_raw(key, profile, service)
        .or_else(|| default_raw(key, Profile::Development, service))
        .unwrap_or_default();
    T::parse(&raw)
        .ok()
        .or_else(T::absent)
        .unwrap_or_else(|| unreachable!("the default of {} does not parse", key.path))
}
