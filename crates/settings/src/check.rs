//! Range checks that sections share; each message says what is allowed.

use std::time::Duration;

/// Longer than zero.
///
/// # Errors
/// When the duration is zero.
pub fn positive(duration: &Duration) -> Result<(), String> {
    if duration.is_zero() {
        Err("must be longer than zero".to_owned())
    } else {
        Ok(())
    }
}

/// At least one.
///
/// # Errors
/// When the number is zero.
pub fn at_least_one<T: Into<u64> + Copy>(number: &T) -> Result<(), String> {
    if (*number).into() == 0 {
        Err("must be at least 1".to_owned())
    } else {
        Ok(())
    }
}

/// A ratio.
///
/// # Errors
/// When the number lies outside of 0 to 1.
pub fn ratio(number: &f64) -> Result<(), String> {
    if (0.0..=1.0).contains(number) {
        Ok(())
    } else {
        Err("must lie between 0 and 1".to_owned())
    }
}

/// A finite rate above zero.
///
/// # Errors
/// When the number is zero, negative or not finite.
pub fn rate(number: &f64) -> Result<(), String> {
    if number.is_finite() && *number > 0.0 {
        Ok(())
    } else {
        Err("must be greater than 0".to_owned())
    }
}
