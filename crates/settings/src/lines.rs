//! Where the keys of a YAML file stand, for messages about them.

use std::collections::BTreeMap;

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

/// The line of each dotted key, counted from 1; what cannot be read is left out.
pub(crate) fn of(text: &str) -> BTreeMap<String, usize> {
    let mut lines = Lines::default();
    // The same parser has read the file already, and says what is wrong with it.
    let _read = Parser::new_from_str(text).load(&mut lines, false);
    lines.found
}

#[derive(Default)]
struct Lines {
    found: BTreeMap<String, usize>,
    open: Vec<Level>,
}

/// A mapping or a list that has not ended.
enum Level {
    Mapping { path: String, key: Option<String> },
    List,
}

impl Lines {
    /// The path of the value that begins; a mapping that has no key yet takes it for one.
    fn path(&self) -> String {
        match self.open.last() {
            Some(Level::Mapping { path, key }) => join(path, key.as_deref().unwrap_or_default()),
            Some(Level::List) | None => String::new(),
        }
    }

    /// A value has ended: the next scalar of its mapping is a key.
    fn end_value(&mut self) {
        if let Some(Level::Mapping { key, .. }) = self.open.last_mut() {
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

impl MarkedEventReceiver for Lines {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::Scalar(text, ..) => match self.open.last_mut() {
                Some(Level::Mapping { path, key }) if key.is_none() => {
                    self.found.insert(join(path, &text), mark.line());
                    *key = Some(text);
                }
                _ => self.end_value(),
            },
            Event::Alias(_) => self.end_value(),
            Event::MappingStart(..) => {
                let path = self.path();
                self.open.push(Level::Mapping { path, key: None });
            }
            Event::SequenceStart(..) => self.open.push(Level::List),
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
    fn keys_have_lines_in_every_style() {
        let text = "# a comment\nhttp:\n  addr: 'x'\n\n  \"tls.cert\": |\n    many\n    lines\n  \
                    cors:\n    allowed_origins:\n      - a\n      - b\n  idle: 1s\n\
                    rate_limit: {enabled: true,\n  default: {burst: 1}}\nlast: 1\n";
        let lines = of(text);
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
            assert_eq!(lines.get(key), Some(&line), "{key} in {lines:?}");
        }
        assert_eq!(of("a: 1\nb: [").get("a"), Some(&1));
    }
}
