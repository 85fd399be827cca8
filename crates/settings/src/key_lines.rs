//! Line numbers of the keys of a YAML file, for error messages.

use std::collections::BTreeMap;

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

/// The line number of each dotted key, counted from 1. Keys after a syntax error are missing.
pub(crate) fn key_lines_of(text: &str) -> BTreeMap<String, usize> {
    let mut key_lines = KeyLines::default();
    // Errors are ignored: the same parser has already reported them when the file was read.
    let _read = Parser::new_from_str(text).load(&mut key_lines, false);
    key_lines.lines
}

#[derive(Default)]
struct KeyLines {
    lines: BTreeMap<String, usize>,
    open: Vec<Container>,
}

/// An open mapping or list.
enum Container {
    Mapping { path: String, key: Option<String> },
    List,
}

impl KeyLines {
    /// The path of the value that begins. A mapping at the position of a key has an empty key.
    fn path(&self) -> String {
        match self.open.last() {
            Some(Container::Mapping { path, key }) => {
                join(path, key.as_deref().unwrap_or_default())
            }
            Some(Container::List) | None => String::new(),
        }
    }

    /// Ends a value, so the next scalar of the mapping is a key.
    fn end_value(&mut self) {
        if let Some(Container::Mapping { key, .. }) = self.open.last_mut() {
            *key = None;
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

impl MarkedEventReceiver for KeyLines {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::Scalar(text, ..) => match self.open.last_mut() {
                Some(Container::Mapping { path, key }) if key.is_none() => {
                    self.lines.insert(join(path, &text), mark.line());
                    *key = Some(text);
                }
                _ => self.end_value(),
            },
            Event::Alias(_) => self.end_value(),
            Event::MappingStart(..) => {
                let path = self.path();
                self.open.push(Container::Mapping { path, key: None });
            }
            Event::SequenceStart(..) => self.open.push(Container::List),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                self.end_value();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_yaml_style_have_lines() {
        let text = "# a comment\nhttp:\n  addr: 'x'\n\n  \"tls.cert\": |\n    many\n    lines\n  \
                    cors:\n    allowed_origins:\n      - a\n      - b\n  idle: 1s\n\
                    rate_limit: {enabled: true,\n  default: {burst: 1}}\nlast: 1\n";
        let key_lines = key_lines_of(text);
        for (key, line) in [
            ("http", 2),
            ("http.addr", 3),
            ("http.tls.cert", 5),
            ("http.cors.allowed_origins", 9),
            ("http.idle", 12),
            ("rate_limit.enabled", 13),
            ("rate_limit.default.burst", 14),
            ("last", 15),
        ] {
            assert_eq!(key_lines.get(key), Some(&line), "{key} in {key_lines:?}");
        }
        assert_eq!(key_lines_of("a: 1\nb: [").get("a"), Some(&1));
    }
}
