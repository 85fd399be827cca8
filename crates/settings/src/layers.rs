//! The configuration layers, lowest precedence first: `config/base.yaml`,
//! `config/<environment>.yaml`, `.env` (development only), environment variables. Within the
//! variables, `APP__<SECTION>__<KEY>` overrides the standard names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::environment::{Environment, Profile};
use crate::file::FileLayer;
use crate::names::{self, STANDARD};
use crate::problem::Problem;
use crate::value::{RawValue, SourcedValue};

/// All layers, merged.
#[derive(Debug, Default)]
pub struct Layers {
    /// `APP_ENV`.
    pub environment: Environment,
    /// Value of each dotted key.
    pub values: BTreeMap<String, SourcedValue>,
    /// `OTEL_*` variables with a value. The specification treats an empty variable as unset.
    pub otel: BTreeMap<String, String>,
    /// Source of every variable that is set.
    pub variables: BTreeMap<String, String>,
    /// Files and variables that could not be read.
    pub problems: Vec<Problem>,
    /// Settings without effect that do not stop the start.
    pub warnings: Vec<String>,
}

/// Variables by name, each with its value and its source.
type Variables = BTreeMap<String, (String, String)>;

impl Layers {
    /// Reads the files under `directory`, or under `APP_CONFIG_DIR`, and the given
    /// environment.
    ///
    /// `dotenv` is the path of the `.env` file, which is read in development only.
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
        let directory = layers.find_directory(directory, &environment);
        layers.read_environment(&directory, &environment);
        layers.read_file(&directory.join("base.yaml"));
        let own = format!("{}.yaml", layers.environment.name);
        layers.read_file(&directory.join(own));
        if layers.environment.profile == Profile::Development {
            let variables = layers.read_dotenv(dotenv);
            layers.warn_about_bootstrap_names(&variables);
            layers.read_variables(&variables);
        }
        layers.read_variables(&environment);
        layers
    }

    /// The default folder may be missing. A folder that is set explicitly must exist.
    fn find_directory(&mut self, built_in: &Path, environment: &Variables) -> PathBuf {
        let named = environment.get("APP_CONFIG_DIR");
        let Some((directory, source)) = named.filter(|(value, _)| !value.is_empty()) else {
            return built_in.to_owned();
        };
        let path = PathBuf::from(directory);
        if !path.is_dir() {
            let why = format!("names {directory}, which is not a folder");
            self.problem("APP_CONFIG_DIR", source, &why);
        }
        path
    }

    fn read_environment(&mut self, directory: &Path, environment: &Variables) {
        let Some((value, source)) = environment.get("APP_ENV") else {
            return;
        };
        match Environment::read(value, directory) {
            Ok(environment) => self.environment = environment,
            Err(why) => {
                self.problem("APP_ENV", source, &why);
                self.environment = Environment::of(Profile::Production);
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let layer = FileLayer::read(path);
        self.problems.extend(layer.problems);
        self.merge(&layer.values);
    }

    /// These variables select the files that are read, so they have no effect in `.env`.
    fn warn_about_bootstrap_names(&mut self, variables: &Variables) {
        for name in names::BOOTSTRAP {
            if let Some((_, source)) = variables.get(name) {
                let warning = format!("{source} has no effect. Set it in the environment instead");
                self.warnings.push(warning);
            }
        }
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
                // Reading is not retried: for an unreadable file or a folder, the iterator repeats
                // the error forever.
                Err(dotenvy::Error::Io(error)) => {
                    self.problem(&source, "file", &format!("cannot be read: {error}"));
                    break;
                }
                // The parser's message is dropped because it repeats the line, which may hold a
                // secret.
                Err(_) => self.problem(&source, "file", "has a line that is not NAME=value"),
            }
        }
        variables
    }

    fn read_variables(&mut self, variables: &Variables) {
        for (name, (value, source)) in variables {
            self.variables.insert(name.clone(), source.clone());
            if name.starts_with("OTEL_") && !value.is_empty() {
                self.otel.insert(name.clone(), value.clone());
            }
        }
        let mut standard = BTreeMap::new();
        for (name, key) in STANDARD {
            if let Some((value, source)) = variables.get(*name) {
                standard.insert((*key).to_owned(), sourced(value, source));
            }
            if let Some((value, source)) = variables.get(&format!("{name}_FILE")) {
                standard.insert(format!("{key}_file"), sourced(value, source));
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
                Some((key, sourced(value, source)))
            })
            .collect();
        self.merge(&own);
    }

    /// Adds a layer on top. `<key>_file` sets the key to the content of the file.
    fn merge(&mut self, layer: &BTreeMap<String, SourcedValue>) {
        for (key, leaf) in layer {
            match key.strip_suffix("_file") {
                None => {
                    self.values.insert(key.clone(), leaf.clone());
                }
                Some(base) if layer.contains_key(base) => {
                    self.problem(
                        base,
                        &leaf.source,
                        "is set both as a value and as a file, keep one",
                    );
                }
                Some(base) => self.read_secret_file(base, leaf),
            }
        }
    }

    fn read_secret_file(&mut self, key: &str, leaf: &SourcedValue) {
        let path = PathBuf::from(&leaf.raw.text);
        match std::fs::read_to_string(&path) {
            Ok(content) => {
                let raw = RawValue {
                    text: content.trim_end().to_owned(),
                    file: Some(path),
                };
                self.values.insert(
                    key.to_owned(),
                    SourcedValue {
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

fn sourced(value: &str, source: &str) -> SourcedValue {
    SourcedValue {
        raw: RawValue::text(value),
        source: source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_instead_of_the_env_file_is_one_problem() {
        let folder = tempfile::tempdir().unwrap();
        let layers = Layers::load(folder.path(), folder.path(), []);
        assert_eq!(layers.problems.len(), 1, "{:?}", layers.problems);
    }
}
