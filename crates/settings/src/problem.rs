//! Problems of a configuration.

use std::fmt;

/// A configuration problem: the key, its source and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, or the name of a variable or file.
    pub key: String,
    /// Source of the value.
    pub source: String,
    /// The reason. It continues a sentence that begins with the key.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}) {}", self.key, self.source, self.why)
    }
}
