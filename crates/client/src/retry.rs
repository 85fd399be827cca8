//! Decides which attempts are repeated, and when.

use std::time::Duration;

use http::{Method, Response, StatusCode, header};
use settings::backoff::{Backoff, jittered};

use crate::error::CallError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Replicas that fail at the same moment do not try again at the same moment.
const JITTER: f64 = 0.25;

/// The remaining attempts of a call.
pub(crate) struct Retries {
    left: u32,
    backoff: Backoff,
}

impl Retries {
    pub(crate) fn new(method: &Method, attempts: u32) -> Self {
        // A repeated request of another method could have its effect twice.
        let left = if method.is_idempotent() {
            attempts.saturating_sub(1)
        } else {
            0
        };
        Self {
            left,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// The pause before the next attempt. `None` if this result is final.
    pub(crate) fn pause_after<B>(
        &mut self,
        result: &Result<Response<B>, CallError>,
    ) -> Option<Duration> {
        let asked = match result {
            Ok(response) if is_temporary(response.status()) => retry_after(response),
            Err(CallError::Connect(_) | CallError::Broken(_)) => Duration::ZERO,
            // The time of the call is used up, or the next response would be the same.
            Ok(_) | Err(_) => return None,
        };
        self.left = self.left.checked_sub(1)?;
        Some(jittered(self.backoff.next_pause(), JITTER).max(asked))
    }
}

/// Whether the same request may succeed later.
fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// `Retry-After` in seconds. The form with a date is not read.
fn retry_after<B>(response: &Response<B>) -> Duration {
    let value = response.headers().get(header::RETRY_AFTER);
    let seconds = value.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Response<()> {
        Response::builder().status(status).body(()).unwrap()
    }

    #[test]
    fn only_idempotent_requests_are_repeated() {
        let pause = |method: &Method| Retries::new(method, 3).pause_after(&Ok(answer(503)));
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            assert!(pause(&method).is_some(), "{method}");
        }
        for method in [Method::POST, Method::PATCH] {
            assert_eq!(pause(&method), None, "{method}");
        }
    }

    #[test]
    fn only_temporary_failures_are_repeated() {
        let pause = |result| Retries::new(&Method::GET, 2).pause_after::<()>(&result);
        for status in [429, 502, 503, 504] {
            assert!(pause(Ok(answer(status))).is_some(), "{status}");
        }
        for status in [200, 301, 400, 404, 500, 501] {
            assert_eq!(pause(Ok(answer(status))), None, "{status}");
        }
        assert!(pause(Err(CallError::Connect(String::new()))).is_some());
        assert!(pause(Err(CallError::Broken(String::new()))).is_some());
        assert_eq!(pause(Err(CallError::TooLarge(1))), None);
        assert_eq!(pause(Err(CallError::TimedOut(Duration::ZERO))), None);
    }

    #[test]
    fn retry_after_lengthens_the_pause() {
        let mut response = answer(503);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, "7".parse().unwrap());
        let pause = Retries::new(&Method::GET, 2).pause_after(&Ok(response));
        assert_eq!(pause, Some(Duration::from_secs(7)));
    }

    #[test]
    fn attempts_are_limited() {
        let mut retries = Retries::new(&Method::GET, 3);
        let pauses = [(); 3].map(|()| retries.pause_after(&Ok(answer(503))).is_some());
        assert_eq!(pauses, [true, true, false]);
    }
}
