//! Error events: failures of the same kind share a fingerprint, as in error tracking.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::IntCounter;
use quanta::Instant;
use telemetry::logs::Panicked;

use crate::problem::Failure;

/// Kinds that are remembered; codes, routes and types of causes are closed sets,
/// so that a service has far fewer.
const KINDS: usize = 1_024;
/// Bytes of a cause's debug text that are looked at.
const LOOK: usize = 256;

/// A request that ended in a server error.
pub struct ServerError<'a> {
    /// Route template, or `unmatched`.
    pub route: &'static str,
    /// Status that was answered.
    pub status: u16,
    /// The problem that was answered, if one was.
    pub failure: Option<&'a Failure>,
    /// When the request ended.
    pub at: SystemTime,
}

/// Writes the error events of a process, and counts what it leaves out.
pub struct ErrorEvents {
    /// Seconds are counted from here: those of the wall clock may come twice.
    began: Instant,
    kinds: Mutex<Kinds>,
    /// Events of one kind a second: an overload makes every request one, and to write
    /// them must not make it worse.
    per_second: u32,
    suppressed: IntCounter,
}

#[derive(Default)]
struct Kinds {
    known: HashMap<u64, Kind>,
    /// Of all that find the table full.
    others: SecondBudget,
}

struct Kind {
    first_seen: SystemTime,
    count: u64,
    budget: SecondBudget,
}

/// Events of the present second.
#[derive(Default)]
struct SecondBudget {
    second: u64,
    events: u32,
}

impl SecondBudget {
    /// Takes a place in a second, if there is one.
    fn take(&mut self, second: u64, per_second: u32) -> bool {
        if self.second != second {
            *self = Self { second, events: 0 };
        }
        let free = self.events < per_second;
        self.events += u32::from(free);
        free
    }
}

/// The history of an event's kind.
#[derive(Debug, PartialEq)]
struct Occurrence {
    first_seen: SystemTime,
    count: u64,
}

impl ErrorEvents {
    /// Writes `per_second` events of one kind at most, and counts the others in `suppressed`.
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

    /// Counts a failure at a time of day, in a second of this process's life; `None` when
    /// its kind has had its events of that second.
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

/// FNV-1a: the same in every process and version, which the standard library's
/// hashes do not promise. Parts are set apart by a byte that no text has.
fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts
        .iter()
        .flat_map(|part| part.bytes().chain(std::iter::once(0xff)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The names of types and variants at the head of a cause's debug text,
/// `Unavailable.PoolTimedOut`: the kind of the cause without its values.
fn kind_of(cause: &dyn std::fmt::Debug) -> String {
    struct Head(String);
    impl std::fmt::Write for Head {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.push_str(text);
            // An error ends the formatting: the rest is not looked at.
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

/// All panics are of one type: where they came from tells them apart.
fn place_of<'a>(cause: &'a (dyn std::error::Error + Send + Sync + 'static)) -> Option<&'a str> {
    cause.downcast_ref::<Panicked>()?.file()
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
