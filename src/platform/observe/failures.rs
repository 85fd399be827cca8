//! Error tracking without a vendor: failures of the same kind share a fingerprint.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::RequestRecord;
use crate::platform::telemetry::logs::Panicked;

/// Kinds that are remembered; codes, routes and types of causes are closed sets,
/// so that a service has far fewer.
const KINDS: usize = 1_024;
/// Bytes of a cause's debug text that are looked at.
const LOOK: usize = 256;

/// Failures since the start of the process.
#[derive(Default)]
pub(super) struct Failures {
    kinds: Mutex<HashMap<u64, Kind>>,
}

#[derive(Clone, Copy)]
struct Kind {
    first_seen: SystemTime,
    count: u64,
}

impl Failures {
    /// Writes the error event of a request that ended in 5xx.
    pub(super) fn report(&self, record: &RequestRecord) {
        let failure = record.failure.as_ref();
        let code = failure.map_or("UNKNOWN", |failure| failure.code.code);
        let cause = failure.and_then(|failure| failure.cause.as_deref());
        let kind = cause.map(|cause| kind_of(&cause));
        let route = record.context.route;
        let mut parts = vec![code, route, kind.as_deref().unwrap_or_default()];
        parts.extend(cause.and_then(place_of));
        let fingerprint = fingerprint(&parts);
        let seen = self.saw(fingerprint, record.started + record.duration);
        let first_seen = time::OffsetDateTime::from(seen.first_seen)
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default();
        tracing::error!(
            code,
            route,
            status = record.status,
            error = cause.map(tracing::field::display),
            error_type = kind,
            fingerprint = format!("{fingerprint:016x}"),
            first_seen,
            count = seen.count,
            "request failed"
        );
    }

    fn saw(&self, fingerprint: u64, now: SystemTime) -> Kind {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Kind {
            first_seen: now,
            count: 0,
        };
        if kinds.len() >= KINDS && !kinds.contains_key(&fingerprint) {
            return Kind { count: 1, ..new };
        }
        let kind = kinds.entry(fingerprint).or_insert(new);
        kind.count += 1;
        *kind
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
    use super::*;
    use crate::platform::db::DbError;

    #[test]
    fn the_kind_of_a_cause_has_no_values() {
        let timed_out = DbError::Unavailable(sqlx::Error::PoolTimedOut);
        assert_eq!(kind_of(&timed_out), "Unavailable.PoolTimedOut");
        let protocol = DbError::Failed(sqlx::Error::Protocol("Secret".to_owned()));
        assert_eq!(kind_of(&protocol), "Failed.Protocol");
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
        let failures = Failures::default();
        let first = failures.saw(1, SystemTime::UNIX_EPOCH);
        let second = failures.saw(1, SystemTime::now());
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(second.first_seen, SystemTime::UNIX_EPOCH);
        for kind in 0..5_000 {
            failures.saw(kind, SystemTime::now());
        }
        assert_eq!(failures.kinds.lock().unwrap().len(), KINDS);
    }
}
