//! Validation rules of domain types, and the error of a rejected value.

use std::time::Duration;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

use crate::value::parse_duration;

/// A rejected value: a code to match on and a message. Never contains the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// Stable code in upper snake case.
    pub code: &'static str,
    /// Message for people. It continues a sentence that begins with the field.
    pub message: &'static str,
}

/// The longest time to live. Longer-lived settings belong in the configuration.
const MAX_TTL: Duration = Duration::from_hours(365 * 24);

/// Parses an optional duration such as `250ms`, `15s` or `5m`.
///
/// # Errors
/// `INVALID_DURATION` for anything else.
pub fn duration(text: Option<&str>) -> Result<Option<Duration>, InvalidValue> {
    const REFUSAL: InvalidValue = InvalidValue {
        code: "INVALID_DURATION",
        message: "is not a duration such as 250ms, 15s or 5m",
    };
    text.map(|text| parse_duration(text).ok_or(REFUSAL))
        .transpose()
}

/// Parses the time to live of a temporary setting.
///
/// # Errors
/// `INVALID_DURATION`, or `OUT_OF_RANGE` for zero and for more than 365 days.
pub fn ttl(text: Option<&str>) -> Result<Option<Duration>, InvalidValue> {
    match duration(text)? {
        Some(ttl) if ttl.is_zero() || ttl > MAX_TTL => Err(InvalidValue {
            code: "OUT_OF_RANGE",
            message: "must be longer than zero and at most 365d",
        }),
        ttl => Ok(ttl),
    }
}

/// Checks a ratio.
///
/// # Errors
/// `OUT_OF_RANGE` outside of 0 to 1.
pub fn ratio(ratio: f64) -> Result<f64, InvalidValue> {
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(InvalidValue {
            code: "OUT_OF_RANGE",
            message: "must lie between 0 and 1",
        })
    }
}

/// Whether a text is displayed as one line, exactly as stored: no control characters, no line or
/// paragraph separators, and no bidirectional controls (Unicode Standard Annex 9, section 2), which
/// reverse the surrounding text.
#[must_use]
pub fn is_plain_line(text: &str) -> bool {
    let bidi = CodePointSetData::new::<BidiControl>();
    let category = CodePointMapData::<GeneralCategory>::new();
    !text.chars().any(|c| {
        !(' '..='~').contains(&c)
            && (bidi.contains(c)
                || matches!(
                    category.get(c),
                    GeneralCategory::Control
                        | GeneralCategory::LineSeparator
                        | GeneralCategory::ParagraphSeparator
                ))
    })
}

/// Whether a character is drawn as nothing: blanks, controls, format characters and other ignorable
/// characters (`Default_Ignorable_Code_Point`), and unassigned code points.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    // U+2800 (blank Braille pattern) is a symbol in Unicode but is drawn blank.
    c == '\u{2800}'
        || c.is_whitespace()
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || matches!(
            CodePointMapData::<GeneralCategory>::new().get(c),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::SpaceSeparator
                | GeneralCategory::Unassigned
                | GeneralCategory::PrivateUse
                | GeneralCategory::Surrogate
        )
}

/// Whether a text has at least one visible character.
#[must_use]
pub fn is_visible(text: &str) -> bool {
    !text.chars().all(is_invisible)
}

/// The text in normalization form C (Unicode Standard Annex 15).
#[must_use]
pub fn composed(text: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc()
        .normalize(text)
        .into_owned()
}

/// Whether a text has compatibility characters such as full-width letters, ligatures and
/// superscripts.
#[must_use]
pub fn has_compatibility_characters(composed: &str) -> bool {
    !ComposingNormalizerBorrowed::new_nfkc().is_normalized(composed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_have_no_control_characters() {
        for good in [
            "",
            "Ada King",
            "\u{645}\u{200c}\u{647}",
            "👩\u{200d}🔬",
            "שלום",
        ] {
            assert!(is_plain_line(good), "{good:?}");
        }
        let bidi = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in bidi
            .chars()
            .chain("\0\t\n\u{1b}\u{7f}\u{85}\u{2028}\u{2029}".chars())
        {
            assert!(!is_plain_line(&format!("a{c}b")), "{c:?}");
        }
    }

    #[test]
    fn characters_that_are_drawn_as_nothing_are_invisible() {
        let invisible = "\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{180e}\u{200b}\u{200d}\u{2060}\u{2800}\u{3000}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{e0020}\u{e000}\u{fffe}";
        for c in invisible.chars() {
            assert!(is_invisible(c), "{c:?}");
        }
        assert!(!is_visible(invisible));
        for c in "a1-.äß日\u{301}👩".chars() {
            assert!(!is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn texts_are_normalized_and_compatibility_characters_are_found() {
        assert_eq!(composed("e\u{301}"), "é");
        for variant in ["ａ", "ﬁ", "x²", "①"] {
            assert!(has_compatibility_characters(variant), "{variant:?}");
        }
        assert!(!has_compatibility_characters("josé.日本"));
    }
}
