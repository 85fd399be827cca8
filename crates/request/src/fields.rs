//! Collects the errors of all fields for one answer.

use settings::validation::InvalidValue;

use crate::problem::{FieldError, Problem};

/// Collects the errors of the fields of a body while they are parsed into their domain types. One
/// answer then contains all of them.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Records the error of a field, if there is one.
    pub fn take<T>(&mut self, field: &str, parsed: Result<T, InvalidValue>) -> Option<T> {
        parsed
            .map_err(|InvalidValue { code, message }| {
                self.0.push(FieldError {
                    field: field.to_owned(),
                    code,
                    message: message.into(),
                });
            })
            .ok()
    }

    /// Ends the parsing.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` with the errors of all fields.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Problem::validation(self.0)),
        }
    }
}
