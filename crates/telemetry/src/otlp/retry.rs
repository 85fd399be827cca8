//! Whether a batch that a collector has not taken is sent again, and when: "Failures"
//! and "Throttling" of the OTLP specification.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use rand::Rng as _;
use tonic::Code;

/// Times that a batch is sent again; this and the waits are those of the library's
/// exporters, log lines have them too.
const RETRIES: u32 = 3;
/// Wait before the first of them; it doubles.
const FIRST: Duration = Duration::from_millis(100);
/// At most this is added to a wait, so that replicas do not come back all at once.
const JITTER_MILLIS: u64 = 100;

/// What a failure says about another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would fail again.
    Never,
    /// After a while.
    Later,
    /// The collector said when, at the earliest.
    After(Duration),
}

impl Retry {
    /// Of an answer by HTTP.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        match status.as_u16() {
            429 | 502..=504 => retry_after(headers, now).map_or(Self::Later, Self::After),
            _ => Self::Never,
        }
    }

    /// Of an answer by gRPC, with the delay of its `RetryInfo`.
    pub(super) fn of_grpc(code: Code, delay: Option<Duration>) -> Self {
        match code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => delay.map_or(Self::Later, Self::After),
            // Nobody knows whether what is exhausted comes back, unless it is said.
            Code::ResourceExhausted => delay.map_or(Self::Never, Self::After),
            _ => Self::Never,
        }
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The waits between the tries of one batch.
#[derive(Debug)]
pub(super) struct Waits {
    left: u32,
    next: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            left: RETRIES,
            next: FIRST,
        }
    }
}

impl Waits {
    /// How long to wait for another try; `None` is to give up.
    pub(super) fn before(&mut self, retry: Retry) -> Option<Duration> {
        let asked = match retry {
            Retry::Never => return None,
            Retry::Later => Duration::ZERO,
            Retry::After(asked) => asked,
        };
        self.left = self.left.checked_sub(1)?;
        let wait = self.next.max(asked);
        self.next *= 2;
        let jitter = rand::rng().random_range(0..=JITTER_MILLIS);
        Some(wait.saturating_add(Duration::from_millis(jitter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_http(status: u16, retry_after: Option<&str>) -> Retry {
        let headers = retry_after
            .map(|value| (header::RETRY_AFTER, value.parse().unwrap()))
            .into_iter()
            .collect();
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        Retry::of_http(StatusCode::from_u16(status).unwrap(), &headers, now)
    }

    #[test]
    fn http_answers_are_tried_again_where_the_specification_says_so() {
        for status in [429, 502, 503, 504] {
            assert_eq!(of_http(status, None), Retry::Later, "{status}");
            let asked = Retry::After(Duration::from_secs(7));
            assert_eq!(of_http(status, Some("7")), asked, "{status}");
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            assert_eq!(of_http(status, Some("7")), Retry::Never, "{status}");
        }
    }

    #[test]
    fn retry_after_may_be_a_date() {
        for (value, expected) in [
            (
                "Sun, 06 Nov 1994 08:49:40 GMT",
                Retry::After(Duration::from_secs(3)),
            ),
            (
                "Sun, 06 Nov 1994 08:49:00 GMT",
                Retry::After(Duration::ZERO),
            ),
            ("soon", Retry::Later),
            ("-1", Retry::Later),
        ] {
            assert_eq!(of_http(503, Some(value)), expected, "{value}");
        }
    }

    #[test]
    fn grpc_answers_are_tried_again_where_the_specification_says_so() {
        let asked = Duration::from_millis(1_500);
        for code in (0..=16).map(Code::from_i32) {
            let (without, with) = match code {
                Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss => (Retry::Later, Retry::After(asked)),
                Code::ResourceExhausted => (Retry::Never, Retry::After(asked)),
                _ => (Retry::Never, Retry::Never),
            };
            assert_eq!(Retry::of_grpc(code, None), without, "{code:?}");
            assert_eq!(Retry::of_grpc(code, Some(asked)), with, "{code:?}");
        }
    }

    #[test]
    fn waits_double_obey_the_collector_and_end() {
        let mut waits = Waits::default();
        assert_eq!(waits.before(Retry::Never), None);
        for (retry, least) in [
            (Retry::Later, 100),
            (Retry::After(Duration::from_secs(5)), 5_000),
            (Retry::After(Duration::ZERO), 400),
        ] {
            let wait = waits.before(retry).unwrap();
            let least = Duration::from_millis(least);
            let most = least + Duration::from_millis(JITTER_MILLIS);
            assert!((least..=most).contains(&wait), "{wait:?}");
        }
        assert_eq!(waits.before(Retry::Later), None);
    }
}
