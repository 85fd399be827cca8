//! Log lines before the logger is installed, and of commands without a logger. They are written to
//! standard error in the JSON format of the log.

use std::io::Write as _;

use settings::clock::system_time;
use tracing::Level;

use super::json::Json;
use super::line::{Fields as _, LineHeader, Name};
use super::panics::panic_message;

/// Target of these lines.
pub(super) const TARGET: &str = "process";

/// Writes one JSON line.
pub fn json_line(level: Level, message: &str) {
    write(&line(level, message, None));
}

/// Writes panics as JSON lines until the logger is installed.
pub fn panics_as_json() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let text = panic_message(panic.payload());
        let line = line(Level::ERROR, "a thread panicked", Some((&text, location)));
        write(&line);
    }));
}

fn write(line: &[u8]) {
    // A closed standard error is ignored because there is no other output.
    let _closed = std::io::stderr().lock().write_all(line);
}

/// Formats a line, with the text and the location of a panic.
fn line(level: Level, message: &str, panic: Option<(&str, Option<String>)>) -> Vec<u8> {
    let head = LineHeader {
        at: system_time(),
        level,
        message,
        target: TARGET,
        members: None,
    };
    let mut line = Vec::new();
    let mut json = Json::open(&mut line, &head, None, None);
    if let Some((text, location)) = panic {
        json.text(Name::known("panic"), text);
        json.text(Name::known("at"), location.as_deref().unwrap_or("unknown"));
    }
    json.close();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_before_the_logger_is_one_object() {
        let panic = Some(("at \"home\"\nand away", Some("src/a.rs:1:2".to_owned())));
        let line = line(Level::ERROR, "a thread panicked", panic);
        assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["panic"], "at \"home\"\nand away");
        assert_eq!(line["at"], "src/a.rs:1:2");
    }
}
