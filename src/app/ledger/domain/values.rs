//! Values of requests, parsed at the border.

use settings::validation::{InvalidValue, is_plain_line, is_visible};
use uuid::Uuid;

/// Limit of one transfer: 10^15 minor units, ten trillion euros. It has no business reason. It
/// keeps every sum far from the limits of `i64`.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// Limit of a balance: 2^53 - 1, the largest integer that every JSON reader represents exactly (RFC
/// 8259, section 6).
pub const MAX_BALANCE: i64 = (1 << 53) - 1;

/// An ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads three capital letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.as_bytes().try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(code))
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The allowed currencies (`ledger.currencies`).
#[derive(Debug, Clone)]
pub struct Currencies(Vec<Currency>);

impl Currencies {
    /// Creates the list from codes that the configuration has checked.
    #[must_use]
    pub fn new(codes: &[String]) -> Self {
        Self(
            codes
                .iter()
                .filter_map(|code| Currency::parse(code))
                .collect(),
        )
    }

    /// Reads the code of an allowed currency.
    ///
    /// # Errors
    /// `UNKNOWN_CURRENCY`.
    pub fn parse(&self, text: &str) -> Result<Currency, InvalidValue> {
        Currency::parse(text)
            .filter(|currency| self.0.contains(currency))
            .ok_or(InvalidValue {
                code: "UNKNOWN_CURRENCY",
                message: "must be the ISO 4217 code of a currency that the ledger keeps",
            })
    }
}

/// A positive amount in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i64);

impl Amount {
    /// Reads 1 to [`MAX_AMOUNT`].
    ///
    /// # Errors
    /// `OUT_OF_RANGE`.
    pub fn parse(minor_units: i64) -> Result<Self, InvalidValue> {
        if (1..=MAX_AMOUNT).contains(&minor_units) {
            Ok(Self(minor_units))
        } else {
            Err(InvalidValue {
                code: "OUT_OF_RANGE",
                message: "must lie between 1 and 1000000000000000 minor units",
            })
        }
    }

    /// The amount in minor units.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// Text of limited length, in one line, without control characters or controls of direction.
fn plain_text(text: &str, min: usize, max: usize) -> Option<String> {
    // Counting stops early, because only the body limit restricts the text.
    let length = text.chars().take(max + 1).count();
    let fits = (min..=max).contains(&length) && is_plain_line(text);
    fits.then(|| text.to_owned())
}

/// The owner's name of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(String);

impl AccountName {
    /// Reads 1 to 100 characters, some of them visible.
    ///
    /// # Errors
    /// `INVALID_TEXT`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        plain_text(text, 1, 100)
            .filter(|text| is_visible(text))
            .map(Self)
            .ok_or(InvalidValue {
                code: "INVALID_TEXT",
                message: "must have 1 to 100 characters, some of them visible, and no control characters or controls of text direction",
            })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The purpose of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    /// Reads at most 140 characters, the SEPA limit of remittance information.
    ///
    /// # Errors
    /// `INVALID_TEXT`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        plain_text(text, 0, 140).map(Self).ok_or(InvalidValue {
            code: "INVALID_TEXT",
            message: "must have 140 characters at most, and no control characters or controls of text direction",
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads an id in a body: the hyphenated form of RFC 9562 only.
///
/// # Errors
/// `INVALID_ID`.
pub fn parse_id(text: &str) -> Result<Uuid, InvalidValue> {
    Uuid::parse_str(text)
        .ok()
        .filter(|_| text.len() == uuid::fmt::Hyphenated::LENGTH)
        .ok_or(InvalidValue {
            code: "INVALID_ID",
            message: "must be a UUID",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_at_the_ends_of_the_range_are_refused() {
        for amount in [i64::MIN, i64::MIN + 1, -1, 0, MAX_AMOUNT + 1, i64::MAX] {
            assert!(Amount::parse(amount).is_err(), "{amount}");
        }
        for amount in [1, MAX_AMOUNT] {
            assert_eq!(Amount::parse(amount).unwrap().get(), amount);
        }
    }

    #[test]
    fn only_configured_currencies_are_known() {
        let currencies = Currencies::new(&["EUR".to_owned(), "USD".to_owned()]);
        assert_eq!(currencies.parse("EUR").unwrap().as_str(), "EUR");
        for unknown in ["", "eur", "EURO", "CHF", "EU", "€"] {
            assert!(currencies.parse(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn texts_have_bounds_in_characters_and_no_control_characters() {
        assert!(Reference::parse("").is_ok());
        assert!(Reference::parse(&"é".repeat(140)).is_ok());
        assert!(Reference::parse(&"é".repeat(141)).is_err());
        assert!(Reference::parse("a\u{0}b").is_err());
        assert!(Reference::parse("a\nb").is_err());
        assert!(Reference::parse("a\u{202e}b").is_err());
        assert!(AccountName::parse(&"é".repeat(100)).is_ok());
        for name in [
            "",
            " ",
            &"é".repeat(101),
            "a\u{7f}",
            "\u{2066}a",
            "\u{200b}\u{3164}",
        ] {
            assert!(AccountName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn ids_have_one_form() {
        let id = Uuid::from_u128(7);
        assert_eq!(parse_id(&id.to_string()), Ok(id));
        for other in [id.simple().to_string(), id.braced().to_string()] {
            assert!(parse_id(&other).is_err(), "{other}");
        }
    }
}
