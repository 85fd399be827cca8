//! The layers, lowest first: `config/base.yaml`, `config/<profile>.yaml`,
//! `.env` (development only), the environment. Within the environment the
//! standard names stand below `APP__<SECTION>__<KEY>`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source as _, Value, ValueKind};

use super::{Problem, Raw};

/// What the process is run for; selects defaults and refuses what is unsafe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Kind defaults for one machine.
    #[default]
    Development,
    /// Safe defaults; refuses generated keys and the like.
    Production,
}

impl Profile {
    /// The value of `APP_ENV`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// A value of one key and the layer that gave it.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The text, and the file when it came from a `_FILE` variant.
    pub raw: Raw,
    /// For people: `config/base.yaml`, `environment variable DATABASE_URL`.
    pub source: String,
}

/// All layers, merged.
#[derive(Debug, Default)]
pub struct Layers {
    /// `APP_ENV`.
    pub profile: Profile,
    /// Dotted key to its value.
    pub leaves: BTreeMap<String, Leaf>,
    /// `OTEL_*` variables that are not empty (the specification reads empty as unset).
    pub otel: BTreeMap<String, String>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Standard variable names and the keys that they set.
pub const STANDARD: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("RUST_LOG", "telemetry.log_filter"),
];

/// A set of variables: the name, its value, and where it stands.
type Variables = BTreeMap<String, (String, String)>;

impl Layers {
    /// Reads the files under `directory` and the given environment.
    ///
    /// `dotenv` is the `.env` file; it counts in development only.
    #[must_use]
    pub fn load(
        directory: &Path,
        dotenv: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let environment: Variables = environment
            .into_iter()
            .map(|(name, value)| {
                let source = format!("environment variable {name}");
                (name, (value, source))
            })
            .collect();
        let mut layers = Self::default();
        layers.profile = layers.read_profile(&environment);
        layers.read_file(&directory.join("base.yaml"));
        let profile_file = directory.join(format!("{}.yaml", layers.profile.as_str()));
        layers.read_file(&profile_file);
        if layers.profile == Profile::Development {
            let variables = layers.read_dotenv(dotenv);
            layers.read_variables(&variables);
        }
        layers.read_variables(&environment);
        layers
    }

    fn read_profile(&mut self, environment: &Variables) -> Profile {
        match environment
            .get("APP_ENV")
            .map(|(value, source)| (value.as_str(), source))
        {
            None | Some(("" | "development", _)) => Profile::Development,
            Some(("production", _)) => Profile::Production,
            Some((_, source)) => {
                self.problem("APP_ENV", source, "is neither development nor production");
                Profile::Production
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        if !path.exists() {
            return;
        }
        let source = path.display().to_string();
        let file = config::File::from(path).format(FileFormat::Yaml);
        let table = match file.collect() {
            Ok(table) => table,
            Err(error) => {
                self.problem(&source, "file", &format!("cannot be read: {error}"));
                return;
            }
        };
        let mut found = BTreeMap::new();
        for (name, value) in table {
            self.flatten(&name, value, &source, &mut found);
        }
        self.merge(&found);
    }

    fn flatten(
        &mut self,
        key: &str,
        value: Value,
        source: &str,
        found: &mut BTreeMap<String, Leaf>,
    ) {
        let text = match value.kind {
            // `http:` with nothing below it sets nothing.
            ValueKind::Nil => return,
            ValueKind::Table(table) => {
                for (name, value) in table {
                    self.flatten(&format!("{key}.{name}"), value, source, found);
                }
                return;
            }
            ValueKind::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match item.into_string() {
                        Ok(text) => texts.push(text),
                        Err(_) => {
                            self.problem(key, source, "holds a list of more than plain values");
                        }
                    }
                }
                texts.join(",")
            }
            kind => kind.to_string(),
        };
        found.insert(
            key.to_owned(),
            Leaf {
                raw: Raw::text(text),
                source: source.to_owned(),
            },
        );
    }

    fn read_dotenv(&mut self, path: &Path) -> Variables {
        let mut variables = Variables::new();
        let Ok(lines) = dotenvy::from_path_iter(path) else {
            return variables;
        };
        let source = path.display().to_string();
        for line in lines {
            match line {
                Ok((name, value)) => {
                    variables.insert(name.clone(), (value, format!("{name} in {source}")));
                }
                // A file that cannot be read, a folder for one, fails for ever.
                Err(dotenvy::Error::Io(error)) => {
                    self.problem(&source, "file", &format!("cannot be read: {error}"));
                    break;
                }
                // The message of a parse error repeats the line, which may hold a secret.
                Err(_) => self.problem(&source, "file", "has a line that is not NAME=value"),
            }
        }
        variables
    }

    fn read_variables(&mut self, variables: &Variables) {
        for (name, (value, _)) in variables {
            if name.starts_with("OTEL_") && !value.is_empty() {
                self.otel.insert(name.clone(), value.clone());
            }
        }
        let mut standard = BTreeMap::new();
        for (name, key) in STANDARD {
            if let Some((value, source)) = variables.get(*name) {
                standard.insert((*key).to_owned(), leaf(value, source));
            }
            if let Some((value, source)) = variables.get(&format!("{name}_FILE")) {
                standard.insert(format!("{key}_file"), leaf(value, source));
            }
        }
        self.merge(&standard);
        let own = variables
            .iter()
            .filter_map(|(name, (value, source))| {
                let key = name
                    .strip_prefix("APP__")?
                    .to_lowercase()
                    .replace("__", ".");
                Some((key, leaf(value, source)))
            })
            .collect();
        self.merge(&own);
    }

    /// Puts a layer over what is there. `<key>_file` means the content of that file.
    fn merge(&mut self, layer: &BTreeMap<String, Leaf>) {
        for (key, leaf) in layer {
            match key.strip_suffix("_file") {
                None => {
                    self.leaves.insert(key.clone(), leaf.clone());
                }
                Some(base) if layer.contains_key(base) => {
                    self.problem(
                        base,
                        &leaf.source,
                        "is set both as a value and as a file; keep one",
                    );
                }
                Some(base) => self.read_secret_file(base, leaf),
            }
        }
    }

    fn read_secret_file(&mut self, key: &str, leaf: &Leaf) {
        let path = PathBuf::from(&leaf.raw.text);
        match std::fs::read_to_string(&path) {
            Ok(content) => {
                let raw = Raw {
                    text: content.trim_end().to_owned(),
                    file: Some(path),
                };
                self.leaves.insert(
                    key.to_owned(),
                    Leaf {
                        raw,
                        source: leaf.source.clone(),
                    },
                );
            }
            Err(error) => {
                let why = format!(
                    "names a file that cannot be read: {}: {error}",
                    path.display()
                );
                self.problem(key, &leaf.source, &why);
            }
        }
    }

    fn problem(&mut self, key: &str, source: &str, why: &str) {
        self.problems.push(Problem {
            key: key.to_owned(),
            source: source.to_owned(),
            why: why.to_owned(),
        });
    }
}

fn leaf(value: &str, source: &str) -> Leaf {
    Leaf {
        raw: Raw::text(value),
        source: source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_the_place_of_the_env_file_is_one_problem() {
        let folder = tempfile::tempdir().unwrap();
        let layers = Layers::load(folder.path(), folder.path(), []);
        assert_eq!(layers.problems.len(), 1, "{:?}", layers.problems);
    }
}
