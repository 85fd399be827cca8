//! Converts layered texts to typed values and collects all problems.

use crate::declare::{Default, SettingKey};
use crate::environment::{Environment, Profile};
use crate::layers::Layers;
use crate::names;
use crate::problem::Problem;
use crate::value::{RawValue, Setting, SourcedValue};

/// One line of the effective configuration.
#[derive(Debug, Clone)]
pub struct EffectiveValue {
    /// Dotted key.
    pub key: &'static str,
    /// Value as text. Secrets are redacted. `None` when unset.
    pub value: Option<String>,
    /// Source of the value.
    pub source: String,
}

/// A range check. Its error message states the allowed range.
pub type Check<T> = fn(&T) -> Result<(), String>;

/// Reads keys one by one and records problems and effective values.
#[derive(Debug)]
pub struct Reader {
    layers: Layers,
    /// The value of `{service}` in defaults.
    service: &'static str,
    /// The declared name and the own name of a repeated section.
    renamed: Option<(&'static str, String)>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
    effective: Vec<EffectiveValue>,
}

impl Reader {
    /// A reader of merged layers.
    #[must_use]
    pub fn new(mut layers: Layers) -> Self {
        let problems = std::mem::take(&mut layers.problems);
        Self {
            layers,
            service: "service",
            renamed: None,
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

    /// Settings without effect and misspelt standard names. `others` are standard names that other
    /// code reads.
    #[must_use]
    pub fn warnings(&self, others: &[String]) -> Vec<String> {
        let mut warnings = self.layers.warnings.clone();
        // The telemetry crate reports its own variables without effect.
        let variables = self.layers.variables.iter();
        for (name, source) in variables.filter(|(name, _)| !name.starts_with("OTEL_")) {
            if let Some(meant) = names::suggest_standard_name(name, others) {
                warnings.push(format!("{source} is not read, did you mean {meant}?"));
            }
        }
        warnings
    }

    /// Reads one key. After a problem the default is returned, and [`Reader::finish`] fails.
    pub fn value<T: Setting>(
        &mut self,
        key: Option<&'static SettingKey>,
        check: Option<Check<T>>,
    ) -> T {
        // `settings!` passes exactly one key for each field.
        let Some(key) = key else {
            unreachable!("a field without a key")
        };
        let key = self.own_key(key);
        self.known.push(key.path);
        let set = self.layers.values.get(key.path).cloned();
        let source = set
            .as_ref()
            .map_or_else(|| "default".to_owned(), |leaf| leaf.source.clone());
        let raw = set
            .map(|SourcedValue { raw, .. }| raw)
            .or_else(|| default_raw(key, self.profile(), self.service));
        self.effective.push(EffectiveValue {
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
                placeholder(key, self.profile(), self.service)
            }
        }
    }

    /// Reads a section again under the name `own`, for sections that a configuration may repeat.
    /// `read` sees the keys of `declared` under that name, also in [`Reader::refuse`].
    pub fn repeated<T>(
        &mut self,
        declared: &'static str,
        own: String,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let outer = self.renamed.replace((declared, own));
        let section = read(self);
        self.renamed = outer;
        section
    }

    /// The path of a key in the section that is being read.
    fn own_path(&self, path: &str) -> Option<String> {
        let (declared, own) = self.renamed.as_ref()?;
        let key = path.strip_prefix(declared)?.strip_prefix('.')?;
        Some(format!("{own}.{key}"))
    }

    fn own_key(&self, key: &'static SettingKey) -> &'static SettingKey {
        let Some(path) = self.own_path(key.path) else {
            return key;
        };
        // Leaked: a configuration is read once, and its sections are fixed.
        let path = Box::leak(path.into_boxed_str());
        Box::leak(Box::new(SettingKey { path, ..*key }))
    }

    /// Adds a problem of a rule that spans several keys, with the source of `key`. Skipped when
    /// `key` has a problem already, because its value is a placeholder then.
    pub fn refuse(&mut self, key: &str, why: &str) {
        let own = self.own_path(key);
        let key = own.as_deref().unwrap_or(key);
        if self.problems.iter().any(|problem| problem.key == key) {
            return;
        }
        let source = self.source_of(key);
        self.problem(key, &source, why);
    }

    /// Source of the value of a key.
    #[must_use]
    pub fn source_of(&self, key: &str) -> String {
        self.layers
            .values
            .get(key)
            .map_or_else(|| "default".to_owned(), |leaf| leaf.source.clone())
    }

    /// The `OTEL_*` variables of the environment.
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

    /// Ends the reading. Unknown keys and variables that nearly name a key are problems as well.
    ///
    /// # Errors
    /// All problems.
    pub fn finish(mut self) -> Result<Vec<EffectiveValue>, Vec<Problem>> {
        for (key, leaf) in &self.layers.values {
            if !self.known.contains(&key.as_str()) {
                self.problems.push(Problem {
                    key: key.clone(),
                    source: leaf.source.clone(),
                    why: self.why_unknown(key),
                });
            }
        }
        for (name, source) in &self.layers.variables {
            if let Some((key, file)) = names::probable_key(name, &self.known) {
                self.problems.push(Problem {
                    key: key.to_owned(),
                    source: source.clone(),
                    why: format!(
                        "is set by a misspelt name, write {}{file} with two underscores between levels",
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
                "is a section and has no value of its own, `{member}` is one of its keys"
            );
        }
        if let Some(value) = self.known.iter().find(|known| below(key, known)) {
            return format!("is not a known key, `{value}` is a value and not a section");
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
                format!("is not a known key, did you mean `{known}` ({variable})?")
            }
            None => "is not a known key".to_owned(),
        }
    }
}

fn default_raw(key: &SettingKey, profile: Profile, service: &str) -> Option<RawValue> {
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
    Some(RawValue::text(text.replace("{service}", service)))
}

/// A placeholder value after a problem, so that the remaining keys are still checked. Defaults are
/// literals, and a test parses every one, so this does not panic in a release.
fn placeholder<T: Setting>(key: &SettingKey, profile: Profile, service: &str) -> T {
    let raw = default_raw(key, profile, service)
        .or_else(|| default_raw(key, Profile::Development, service))
        .unwrap_or_default();
    T::parse(&raw)
        .ok()
        .or_else(T::absent)
        .unwrap_or_else(|| unreachable!("the default of {} does not parse", key.path))
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "sections are public by their macro")]
mod tests {
    use super::*;

    static AUDIENCE: SettingKey = SettingKey {
        path: "section.audience",
        doc: "Names the service.",
        kind: "text",
        default: Default::Same("{service}-api"),
        optional: false,
        secret: false,
    };

    #[test]
    fn a_default_contains_the_name_of_the_service() {
        let mut reader = Reader::new(Layers::default()).for_service("mailer");
        let audience: String = reader.value(Some(&AUDIENCE), None);
        assert_eq!(audience, "mailer-api");
        let effective = reader.finish().unwrap();
        assert_eq!(effective[0].value.as_deref(), Some("mailer-api"));
    }

    crate::settings! {
        /// A mailbox.
        pub struct Mailbox("mailbox", validate) {
            /// Messages at most.
            pub limit("limit"): u32 = Same("4");
        }
    }

    impl Mailbox {
        fn validate(&self, reader: &mut Reader) {
            if self.limit == 0 {
                reader.refuse("mailbox.limit", "must be at least 1");
            }
        }
    }

    fn reader(environment: &[(&str, &str)]) -> Reader {
        let environment = environment.iter();
        let environment = environment.map(|(name, value)| ((*name).into(), (*value).into()));
        let nowhere = std::path::Path::new("/nonexistent");
        Reader::new(Layers::load(nowhere, nowhere, environment))
    }

    fn second(reader: &mut Reader) -> Mailbox {
        reader.repeated("mailbox", "mailbox.second".to_owned(), Mailbox::read)
    }

    #[test]
    fn a_repeated_section_has_its_own_keys() {
        let mut reader = reader(&[("APP__MAILBOX__SECOND__LIMIT", "7")]);
        assert_eq!(second(&mut reader).limit, 7);
        assert_eq!(Mailbox::read(&mut reader).limit, 4);
        let keys: Vec<_> = reader.finish().unwrap();
        let keys: Vec<_> = keys.iter().map(|value| value.key).collect();
        assert_eq!(keys, ["mailbox.second.limit", "mailbox.limit"]);
    }

    #[test]
    fn problems_of_a_repeated_section_name_its_own_keys() {
        for value in ["many", "0"] {
            let mut reader = reader(&[("APP__MAILBOX__SECOND__LIMIT", value)]);
            second(&mut reader);
            let problems = reader.finish().unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].key, "mailbox.second.limit");
        }
    }
}
