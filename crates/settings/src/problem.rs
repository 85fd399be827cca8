//! What is wrong with a configuration.

use std::fmt;

/// Something wrong with the configuration: which key, from where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, or the name of a variable or file.
    pub key: String,
    /// Where the value came from.
    pub source: String,
    /// What is wrong, as the rest of a sentence that begins with the key.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}) {}", self.key, self.source, self.why)
    }
}
