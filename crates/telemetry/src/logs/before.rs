//! Lines of a process whose log does not stand: before it, and of commands without one.
//! They go to standard error, in the form of the log's.

use std::io::Write as _;
use std::time::SystemTime;

use tracing::Level;

use super::json::Json;
use super::line::{Fields as _, Head, name};
use super::panics::panic_message;

/// Target of these lines.
pub(super) const TARGET: &str = "process";

/// Writes one JSON object.
pub fn json_line(level: Level, message: &str) {
    write(&line(level, message, None));
}

/// A panic is one JSON object as well, from now on until the log stands.
pub fn panics_as_json() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let text = panic_message(panic.payload());
        let line = line(Level::ERROR, "a thread panicked", Some((&text, location)));
        write(&line);
    }));
}

fn write(line: &[u8]) {
    // Nobody may be reading, which is no failure.
    let _closed = std::io::stderr().lock().write_all(line);
}

/// A line; of a panic with its text and its place.
fn line(level: Level, message: &str, panic: Option<(&str, Option<String>)>) -> Vec<u8> {
    let head = Head {
        at: SystemTime::now(),
        level,
        message,
        target: TARGET,
        members: None,
    };
    let mut line = Vec::new();
    let mut json = Json::open(&mut line, &head, None, None);
    if let Some((text, location)) = panic {
        json.text(name!("panic"), text);
        json.text(name!("at"), location.as_deref().unwrap_or("unknown"));
    }
    json.close();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_before_the_log_is_one_object() {
        let panic = Some(("at \"home\"\nand away", Some("src/a.rs:1:2".to_owned())));
        let line = line(Level::ERROR, "a thread panicked", panic);
        assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["panic"], "at \"home\"\nand away");
        assert_eq!(line["at"], "src/a.rs:1:2");
    }
}
