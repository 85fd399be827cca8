//! What a domain type says of a value that it refuses.

/// A refusal: a word to match on and a sentence; never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Stable upper-snake word.
    pub code: &'static str,
    /// For people, as the rest of a sentence that begins with the field.
    pub message: &'static str,
}
