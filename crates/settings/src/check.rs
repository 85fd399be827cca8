//! Range checks that sections share. Each error message states the allowed range.

use std::time::Duration;

/// Accepts durations longer than zero.
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

/// Accepts numbers from 1.
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

/// Accepts ratios from 0 to 1.
///
/// # Errors
/// When the number is outside of 0 to 1.
pub fn ratio(number: &f64) -> Result<(), String> {
    if (0.0..=1.0).contains(number) {
        Ok(())
    } else {
        Err("must lie between 0 and 1".to_owned())
    }
}

/// Accepts finite rates above zero.
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
