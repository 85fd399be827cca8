//! Reading `OTEL_*` variables as the specification says: what is invalid is warned
//! of and ignored.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Looks variables up, and gathers what it had to ignore.
pub(in crate::platform::telemetry) struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    pub(in crate::platform::telemetry) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(in crate::platform::telemetry) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self {
            variables,
            warnings: Vec::new(),
        }
    }

    /// An empty value is no value.
    pub(in crate::platform::telemetry) fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.variables.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    pub(in crate::platform::telemetry) fn ignore(&mut self, name: &str, why: &str) {
        self.warnings.push(format!("{name} {why}"));
    }

    pub(in crate::platform::telemetry) fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.ignore(name, "is not a number in range");
        }
        number
    }

    /// The specification knows `true`, without regard to case; all else is false.
    pub(in crate::platform::telemetry) fn boolean(&mut self, name: &str) -> bool {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                self.ignore(name, "is neither true nor false");
                false
            }
            _ => false,
        }
    }

    /// The first of the two variables of an exporter setting that `parse` accepts:
    /// the one for this signal (`TRACES_`, `LOGS_`) wins over the one for all.
    pub(in crate::platform::telemetry) fn signal<T>(
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

/// `name=value,…` with percent-encoded values, as in W3C Baggage.
pub(in crate::platform::telemetry) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = decoded(name.trim())?;
            (!name.is_empty()).then_some((name, decoded(value.trim())?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}
