//! Retries of failed batches: "Failures" and "Throttling" of the OTLP specification.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use rand::Rng as _;
use settings::backoff::Backoff;
use tonic::Code;

/// Retries of a batch. Number and delays are those of the exporters of `opentelemetry-otlp`.
const RETRIES: u32 = 3;
/// Delay before the first retry. It doubles with each retry.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Random addition to a delay, so that replicas do not retry at the same time.
const JITTER_MILLIS: u64 = 100;

/// Whether a failed batch is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The failure is permanent.
    Never,
    /// After the default delay.
    Later,
    /// After the delay that the collector requested, at the earliest.
    After(Duration),
}

impl Retry {
    /// The rule for HTTP responses.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        match status.as_u16() {
            429 | 502..=504 => retry_after(headers, now).map_or(Self::Later, Self::After),
            _ => Self::Never,
        }
    }

    /// The rule for gRPC responses, with the delay of `RetryInfo`.
    pub(super) fn of_grpc(code: Code, delay: Option<Duration>) -> Self {
        match code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => delay.map_or(Self::Later, Self::After),
            // An exhausted resource is retried only if the collector requests it.
            Code::ResourceExhausted => delay.map_or(Self::Never, Self::After),
            _ => Self::Never,
        }
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The delays between the attempts for one batch.
#[derive(Debug)]
pub(super) struct RetryDelays {
    left: u32,
    backoff: Backoff,
}

impl Default for RetryDelays {
    fn default() -> Self {
        Self {
            left: RETRIES,
            backoff: Backoff::new(FIRST_DELAY, Duration::MAX),
        }
    }
}

impl RetryDelays {
    /// The delay before the next attempt. `None` if the batch is given up.
    pub(super) fn before(&mut self, retry: Retry) -> Option<Duration> {
        let asked = match retry {
            Retry::Never => return None,
            Retry::Later => Duration::ZERO,
            Retry::After(asked) => asked,
        };
        self.left = self.left.checked_sub(1)?;
        let wait = self.backoff.next_pause().max(asked);
        // Only added, because the collector's delay is the shortest.
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
    fn retryable_http_statuses_are_those_of_the_specification() {
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
    fn retryable_grpc_codes_are_those_of_the_specification() {
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
    fn delays_double_respect_the_collector_and_are_limited() {
        let mut waits = RetryDelays::default();
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
