//! Reads `OTEL_*` variables as specified: invalid values are ignored with a warning.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// The longest duration, also used for "no limit".
const NO_LIMIT: Duration = Duration::from_hours(365 * 24);

/// Looks up variables and collects warnings.
pub(crate) struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self {
            variables,
            warnings: Vec::new(),
        }
    }

    /// The value of a variable. An empty value counts as unset.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.variables.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// The items of a list in lower case. The specification ignores their case.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default().to_ascii_lowercase();
        let words = text.split(',').map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    }

    pub(crate) fn ignore(&mut self, name: &str, why: &str) {
        self.warnings.push(format!("{name} {why}"));
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.ignore(name, "is not a number in range");
        }
        number
    }

    /// Only `true`, in any case, is true.
    pub(crate) fn boolean(&mut self, name: &str) -> bool {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                self.ignore(name, "is neither true nor false");
                false
            }
            _ => false,
        }
    }

    /// A setting of an exporter: the first valid value of the variable for the signal (`TRACES_`,
    /// `LOGS_`) and of the common variable.
    pub(crate) fn signal<T>(
        &mut self,
        signal: &str,
        setting: &str,
        expected: &str,
        parse: impl Fn(&str, bool) -> Option<T>,
    ) -> Option<T> {
        for (infix, own) in [(signal, true), ("", false)] {
            let name = format!("OTEL_EXPORTER_OTLP_{infix}{setting}");
            if let Some(text) = self.text(&name) {
                match parse(text, own) {
                    Some(value) => return Some(value),
                    None => self.ignore(&name, &format!("is not {expected}")),
                }
            }
        }
        None
    }
}

/// A timeout in milliseconds. 0 means no limit.
pub(super) fn timeout(millis: u64) -> Duration {
    match millis {
        0 => NO_LIMIT,
        millis => Duration::from_millis(millis).min(NO_LIMIT),
    }
}

/// Parses `name=value,…` with percent-encoded values, as in W3C Baggage.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = percent_decode(name.trim())?;
            (!name.is_empty()).then_some((name, percent_decode(value.trim())?))
        })
        .collect()
}

/// Decodes percent-encoded text. `None` if it is malformed.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            u8::try_from(high? << 4 | low?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}
