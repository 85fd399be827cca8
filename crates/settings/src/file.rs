//! A configuration layer that is read from a YAML file.

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Source as _, Value, ValueKind};

use crate::key_lines::key_lines_of;
use crate::problem::Problem;
use crate::value::{RawValue, SourcedValue};

/// The values of a file and the problems found in it.
#[derive(Default)]
pub(crate) struct FileLayer {
    pub(crate) values: BTreeMap<String, SourcedValue>,
    pub(crate) problems: Vec<Problem>,
    path: String,
    /// Line number of each key.
    lines: BTreeMap<String, usize>,
}

impl FileLayer {
    /// Reads a file. A missing file is an empty layer.
    pub(crate) fn read(path: &Path) -> Self {
        let mut layer = Self {
            path: path.display().to_string(),
            ..Self::default()
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                layer.refuse_other_ending(path);
                return layer;
            }
            Err(error) => {
                layer.unreadable(&error);
                return layer;
            }
        };
        match config::File::from_str(&text, FileFormat::Yaml).collect() {
            Ok(table) => {
                layer.lines = key_lines_of(&text);
                for (name, value) in table {
                    layer.flatten(&name, value);
                }
            }
            Err(error) => layer.unreadable(&error),
        }
        layer
    }

    fn unreadable(&mut self, error: &dyn std::error::Error) {
        let path = self.path.clone();
        self.problem(&path, "file", &format!("cannot be read: {error}"));
    }

    fn refuse_other_ending(&mut self, path: &Path) {
        let other = path.with_extension("yml");
        if other.exists() {
            let why = format!("is not read, its name must be {}", path.display());
            self.problem(&other.display().to_string(), "file", &why);
        }
    }

    /// File and line number of a key.
    fn place(&self, key: &str) -> String {
        match self.lines.get(key) {
            Some(line) => format!("{}:{line}", self.path),
            None => self.path.clone(),
        }
    }

    fn flatten(&mut self, key: &str, value: Value) {
        let text = match value.kind {
            // A section without keys (`http:`) sets nothing.
            ValueKind::Nil => return,
            ValueKind::Table(table) => {
                for (name, value) in table {
                    self.flatten(&format!("{key}.{name}"), value);
                }
                return;
            }
            ValueKind::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    if let Ok(text) = item.into_string() {
                        texts.push(text);
                    } else {
                        let why = "holds a list of more than plain values";
                        self.problem(key, &self.place(key), why);
                    }
                }
                texts.join(",")
            }
            kind => kind.to_string(),
        };
        let value = SourcedValue {
            raw: RawValue::text(text),
            source: self.place(key),
        };
        self.values.insert(key.to_owned(), value);
    }

    fn problem(&mut self, key: &str, source: &str, why: &str) {
        self.problems.push(Problem {
            key: key.to_owned(),
            source: source.to_owned(),
            why: why.to_owned(),
        });
    }
}
