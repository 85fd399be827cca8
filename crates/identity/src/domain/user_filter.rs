//! Which users an administrator lists, and in which order.

use request::Role;
use settings::validation::{InvalidValue, is_plain_line};

/// Longest text to search for, in characters. It is the length of the longest name.
const MAX_SEARCH_CHARS: usize = super::MAX_NAME_CHARS;

/// The users of a list.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Only users with this role.
    pub role: Option<Role>,
    /// Only users whose name or address contains this text.
    pub search: Option<SearchText>,
    /// Order of the list.
    pub order: UserOrder,
}

/// Order of a list of users. Ids are UUIDv7, so their order is the order of the registrations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UserOrder {
    /// `-created_at`.
    #[default]
    NewestFirst,
    /// `created_at`.
    OldestFirst,
}

impl UserOrder {
    /// Reads the parameter `sort`.
    ///
    /// # Errors
    /// If the text is not one of the orders.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "-created_at" => Ok(Self::NewestFirst),
            "created_at" => Ok(Self::OldestFirst),
            _ => Err(InvalidValue {
                code: "UNKNOWN_ORDER",
                message: "must be created_at or -created_at",
            }),
        }
    }
}

/// A text to search for, with ASCII letters in lower case. Both databases compare it with names and
/// addresses whose ASCII letters are in lower case too.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchText(String);

impl SearchText {
    /// Trims and checks a text.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        let invalid = |code, message| Err(InvalidValue { code, message });
        if text.is_empty() {
            invalid("TOO_SHORT", "must not be empty")
        } else if text.chars().count() > MAX_SEARCH_CHARS {
            invalid("TOO_LONG", "must have 100 characters at most")
        } else if !is_plain_line(text) {
            invalid(
                "INVALID_CHARACTER",
                "must not contain control characters or controls of text direction",
            )
        } else {
            Ok(Self(text.to_ascii_lowercase()))
        }
    }

    /// The text with ASCII letters in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SearchText {
    /// Redacted, because it is part of a name or an address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_to_search_for_are_trimmed_and_bounded() {
        assert_eq!(SearchText::parse(" ADA Ä ").unwrap().as_str(), "ada Ä");
        assert!(SearchText::parse(&"ä".repeat(100)).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{202e}b", &"a".repeat(101)] {
            assert!(SearchText::parse(bad).is_err(), "{bad:?}");
        }
        let text = SearchText::parse("ada").unwrap();
        assert_eq!(format!("{text:?}"), "[redacted]");
    }
}
