//! Error events. Failures of the same kind share a fingerprint, as in error tracking.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::IntCounter;
use quanta::Instant;
use telemetry::logs::CaughtPanic;

use crate::problem::ReportedProblem;

/// Limit of stored kinds. Codes, routes and types of causes are closed sets, so that a service has
/// far fewer.
const KINDS: usize = 1_024;
/// Bytes of a cause's debug text that are read.
const LOOK: usize = 256;

/// A request that ended in a server error.
pub struct ServerError<'a> {
    /// Route template, or `unmatched`.
    pub route: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// The problem in the answer, if there is one.
    pub failure: Option<&'a ReportedProblem>,
    /// When the request ended.
    pub at: SystemTime,
}

/// Writes the error events of a process and counts the suppressed ones.
pub struct ErrorEvents {
    /// Origin of the seconds. Seconds of the wall clock may repeat.
    began: Instant,
    kinds: Mutex<Kinds>,
    /// Limit of events of one kind a second. An overload turns every request into an event, and
    /// writing them must not increase it.
    per_second: u32,
    suppressed: IntCounter,
}

#[derive(Default)]
struct Kinds {
    known: HashMap<u64, Kind>,
    /// Budget of all kinds that do not fit into the table.
    others: SecondBudget,
}

struct Kind {
    first_seen: SystemTime,
    count: u64,
    budget: SecondBudget,
}

/// Number of events in the current second.
#[derive(Default)]
struct SecondBudget {
    second: u64,
    events: u32,
}

impl SecondBudget {
    /// Takes one event of the second's budget, if one is left.
    fn take(&mut self, second: u64, per_second: u32) -> bool {
        if self.second != second {
            *self = Self { second, events: 0 };
        }
        let free = self.events < per_second;
        self.events += u32::from(free);
        free
    }
}

/// The history of one kind of event.
#[derive(Debug, PartialEq)]
struct Occurrence {
    first_seen: SystemTime,
    count: u64,
}

impl ErrorEvents {
    /// Creates a writer of at most `per_second` events of one kind. `suppressed` counts the others.
    #[must_use]
    pub fn new(per_second: u32, suppressed: IntCounter) -> Self {
        Self {
            began: Instant::now(),
            kinds: Mutex::default(),
            per_second,
            suppressed,
        }
    }

    /// Writes the event of a request that ended in a server error.
    pub fn report(&self, error: &ServerError<'_>) {
        let code = error.failure.map_or("UNKNOWN", |failure| failure.code.code);
        let cause = error.failure.and_then(|failure| failure.cause.as_deref());
        let kind = cause.map(|cause| kind_of(&cause));
        let route = error.route;
        let mut parts = vec![code, route, kind.as_deref().unwrap_or_default()];
        parts.extend(cause.and_then(place_of));
        let fingerprint = fingerprint(&parts);
        let Some(seen) = self.count(fingerprint, error.at, self.began.elapsed().as_secs()) else {
            self.suppressed.inc();
            return;
        };
        let first_seen = time::OffsetDateTime::from(seen.first_seen)
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default();
        tracing::error!(
            code,
            route,
            status = error.status,
            error = cause.map(tracing::field::display),
            error_type = kind,
            fingerprint = format!("{fingerprint:016x}"),
            first_seen,
            count = seen.count,
            "request failed"
        );
    }

    /// Counts a failure of a kind. `second` is the age of the process. Returns `None` if the kind
    /// has used its budget of that second.
    fn count(&self, fingerprint: u64, now: SystemTime, second: u64) -> Option<Occurrence> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.known.len() >= KINDS && !kinds.known.contains_key(&fingerprint) {
            let free = kinds.others.take(second, self.per_second);
            return free.then_some(Occurrence {
                first_seen: now,
                count: 1,
            });
        }
        let kind = kinds.known.entry(fingerprint).or_insert_with(|| Kind {
            first_seen: now,
            count: 0,
            budget: SecondBudget::default(),
        });
        kind.count += 1;
        let free = kind.budget.take(second, self.per_second);
        free.then_some(Occurrence {
            first_seen: kind.first_seen,
            count: kind.count,
        })
    }
}

/// FNV-1a gives the same value in every process and version. The hashes of the standard library do
/// not guarantee that. A byte that no text contains separates the parts.
fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts
        .iter()
        .flat_map(|part| part.bytes().chain(std::iter::once(0xff)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The names of types and variants at the start of a cause's debug text, for example
/// `Unavailable.PoolTimedOut`. They name the kind of the cause without its values.
fn kind_of(cause: &dyn std::fmt::Debug) -> String {
    struct Head(String);
    impl std::fmt::Write for Head {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.push_str(text);
            // The error ends the formatting, because the rest is not read.
            if self.0.len() < LOOK {
                Ok(())
            } else {
                Err(std::fmt::Error)
            }
        }
    }
    let mut head = Head(String::new());
    let _cut = write!(head, "{cause:?}");
    let mut kind = String::new();
    for part in head.0.split('(') {
        let name_length = part
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            .count();
        let name = &part[..name_length];
        if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
            break;
        }
        if !kind.is_empty() {
            kind.push('.');
        }
        kind.push_str(name);
        if name_length < part.len() {
            break;
        }
    }
    kind
}

/// All panics have the same type. Their source file distinguishes them.
fn place_of<'a>(cause: &'a (dyn std::error::Error + Send + Sync + 'static)) -> Option<&'a str> {
    cause.downcast_ref::<CaughtPanic>()?.file()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_kind_of_a_cause_has_no_values() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "only its debug text is read")]
        enum Error {
            Unavailable(Cause),
        }
        #[derive(Debug)]
        #[expect(dead_code, reason = "only its debug text is read")]
        enum Cause {
            TimedOut,
            Protocol(String),
        }
        let timed_out = Error::Unavailable(Cause::TimedOut);
        assert_eq!(kind_of(&timed_out), "Unavailable.TimedOut");
        let protocol = Error::Unavailable(Cause::Protocol("Secret".to_owned()));
        assert_eq!(kind_of(&protocol), "Unavailable.Protocol");
        assert_eq!(kind_of(&"Secret"), "");
        let io = std::io::Error::other("Secret");
        assert_eq!(kind_of(&io), "Custom");
    }

    #[test]
    fn a_fingerprint_is_stable_and_tells_kinds_apart() {
        assert_eq!(fingerprint(&[]), 0xcbf2_9ce4_8422_2325);
        let one = fingerprint(&["INTERNAL", "/a", "X"]);
        assert_eq!(one, fingerprint(&["INTERNAL", "/a", "X"]));
        assert_ne!(one, fingerprint(&["INTERNAL", "/b", "X"]));
        assert_ne!(one, fingerprint(&["INTERNAL", "/aX", ""]));
    }

    #[test]
    fn the_first_time_is_kept_and_memory_is_bounded() {
        let events = events(5);
        let first_seen = SystemTime::UNIX_EPOCH;
        let seen = |count| Some(Occurrence { first_seen, count });
        assert_eq!(events.count(1, first_seen, 0), seen(1));
        assert_eq!(events.count(1, after(100), 100), seen(2));
        let told = (0..5_000).filter(|kind| events.count(*kind, after(200), 200).is_some());
        assert_eq!(told.count(), KINDS + 5, "the others share their places");
        assert_eq!(events.kinds.lock().unwrap().known.len(), KINDS);
    }

    #[test]
    fn a_kind_has_its_events_of_every_second_and_the_next_counts_the_others() {
        let events = events(2);
        let count = |kind, second| {
            let seen = events.count(kind, SystemTime::UNIX_EPOCH, second);
            seen.map(|seen| seen.count)
        };
        let counts = [7, 7, 7, 7].map(|second| count(1, second));
        assert_eq!(counts, [Some(1), Some(2), None, None]);
        assert_eq!(count(2, 7), Some(1), "another kind");
        assert_eq!(count(1, 8), Some(5));
    }

    fn events(per_second: u32) -> ErrorEvents {
        ErrorEvents::new(
            per_second,
            IntCounter::new("suppressed", "suppressed").unwrap(),
        )
    }

    fn after(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }
}
