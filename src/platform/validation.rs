//! What a domain type says of a value that it refuses.

use std::time::Duration;

use crate::platform::settings::parse_duration;

/// A refusal: a word to match on and a sentence; never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Stable upper-snake word.
    pub code: &'static str,
    /// For people, as the rest of a sentence that begins with the field.
    pub message: &'static str,
}

/// The longest time that anything is set for; longer is a change of configuration.
const MAX_TTL: Duration = Duration::from_hours(365 * 24);

/// A duration such as `250ms`, `15s` or `5m`, when there is one.
///
/// # Errors
/// `INVALID_DURATION` for anything else.
pub fn duration(text: Option<&str>) -> Result<Option<Duration>, Invalid> {
    const REFUSAL: Invalid = Invalid {
        code: "INVALID_DURATION",
        message: "is not a duration such as 250ms, 15s or 5m",
    };
    text.map(|text| parse_duration(text).ok_or(REFUSAL))
        .transpose()
}

/// How long something that an operator sets shall last.
///
/// # Errors
/// `INVALID_DURATION`, or `OUT_OF_RANGE` for nothing and for more than 365 days.
pub fn ttl(text: Option<&str>) -> Result<Option<Duration>, Invalid> {
    match duration(text)? {
        Some(ttl) if ttl.is_zero() || ttl > MAX_TTL => Err(Invalid {
            code: "OUT_OF_RANGE",
            message: "must be longer than nothing and at most 365d",
        }),
        ttl => Ok(ttl),
    }
}

/// A share of the whole.
///
/// # Errors
/// `OUT_OF_RANGE` beyond 0 and 1.
pub fn ratio(ratio: f64) -> Result<f64, Invalid> {
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(Invalid {
            code: "OUT_OF_RANGE",
            message: "must lie between 0 and 1",
        })
    }
}
