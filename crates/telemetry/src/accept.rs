//! Content negotiation: the header `Accept` and qualities (RFC 9110, sections 12.4.2 and 12.5.1).
//!
//! The metrics page chooses its format with it, and the public listener rejects requests that
//! exclude JSON. No library is used:
//!
//! - `headers-accept` 0.3 compares all parameters, so that ranges with the `escaping` of
//!   Prometheus 3, or with a quality and no version, match neither format of the metrics page. A
//!   single malformed range invalidates its whole header.
//! - `mediatype` 0.23 parses one media type. Lists, qualities and precedence would remain here.
//! - `parse-net` negotiates, but it went through several 0.x versions up to 0.9, each of which may
//!   change the interface.

use http::{HeaderMap, header};

/// The media ranges of a request.
#[derive(Debug, Default)]
pub struct Accept<'a> {
    ranges: Vec<MediaRange<'a>>,
    is_malformed: bool,
}

impl<'a> Accept<'a> {
    /// Reads all headers `Accept`. Malformed ranges are skipped.
    #[must_use]
    pub fn read(headers: &'a HeaderMap) -> Self {
        let mut accept = Self::default();
        for line in headers.get_all(header::ACCEPT) {
            let Ok(line) = line.to_str() else {
                accept.is_malformed = true;
                continue;
            };
            for element in elements(line) {
                match MediaRange::parse(element) {
                    Some(range) => accept.ranges.push(range),
                    None => accept.is_malformed = true,
                }
            }
        }
        accept
    }

    /// Whether a range was skipped.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// The ranges that could be read, in the order of the request.
    #[must_use]
    pub fn ranges(&self) -> &[MediaRange<'a>] {
        &self.ranges
    }

    /// The preference for a media type. The most specific range that matches it determines the
    /// quality. If a range is repeated, the highest quality counts.
    #[must_use]
    pub fn preference(&self, media_type: &MediaType) -> Preference {
        let matching = self.ranges.iter().filter_map(|range| {
            Some(Preference {
                quality: range.quality,
                specificity: range.specificity(media_type)?,
            })
        });
        matching
            .max_by_key(|preference| (preference.specificity, preference.quality))
            .unwrap_or_default()
    }
}

/// A media type that the server can answer with.
#[derive(Debug, Clone, Copy)]
pub struct MediaType {
    /// The type, in lower case.
    pub kind: &'static str,
    /// The subtype, in lower case.
    pub subtype: &'static str,
    /// The value of the parameter `version`, for types that have it. Other parameters are not
    /// compared.
    pub version: Option<&'static str>,
}

/// Preference of a media type. Greater is preferred: at equal quality, a type that is named has
/// precedence over one that is matched by a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Preference {
    /// In thousandths. The type is not acceptable at 0.
    pub quality: u16,
    specificity: u8,
}

/// A media range with its quality.
#[derive(Debug)]
pub struct MediaRange<'a> {
    /// The type. It can be `*`.
    pub kind: &'a str,
    /// The subtype. It can be `*`.
    pub subtype: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    pub quality: u16,
}

impl<'a> MediaRange<'a> {
    fn parse(element: &'a str) -> Option<Self> {
        let Weighted {
            value,
            parameters,
            quality,
        } = Weighted::parse(element)?;
        let (kind, subtype) = value.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) || (kind == "*" && subtype != "*") {
            return None;
        }
        Some(Self {
            kind,
            subtype,
            version: parameter(parameters, "version"),
            quality,
        })
    }

    /// How precisely the range names the media type. `None` if it does not match.
    fn specificity(&self, media_type: &MediaType) -> Option<u8> {
        if self.kind == "*" {
            return Some(1);
        }
        if !self.kind.eq_ignore_ascii_case(media_type.kind) {
            return None;
        }
        if self.subtype == "*" {
            return Some(2);
        }
        if !self.subtype.eq_ignore_ascii_case(media_type.subtype) {
            return None;
        }
        match (self.version, media_type.version) {
            (None, _) | (_, None) => Some(3),
            (Some(requested), Some(offered)) => (requested == offered).then_some(4),
        }
    }
}

/// An element of `Accept`, `Accept-Encoding` or a similar header.
#[derive(Debug, PartialEq, Eq)]
pub struct Weighted<'a> {
    /// The part before the parameters.
    pub value: &'a str,
    parameters: &'a str,
    /// In thousandths.
    pub quality: u16,
}

impl<'a> Weighted<'a> {
    /// Reads one element. `None` if its quality is malformed.
    #[must_use]
    pub fn parse(element: &'a str) -> Option<Self> {
        let (value, parameters) = element.split_once(';').unwrap_or((element, ""));
        let quality = match parameter(parameters, "q") {
            Some(text) => quality(text)?,
            None => 1_000,
        };
        Some(Self {
            value: value.trim(),
            parameters,
            quality,
        })
    }
}

/// The elements of a list (RFC 9110, section 5.6.1). Empty ones are skipped.
pub fn elements(line: &str) -> impl Iterator<Item = &str> {
    split(line, b',').map(str::trim).filter(|e| !e.is_empty())
}

/// The value of the last parameter with this name, without the quotes of a quoted string.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    split(parameters, b';')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(known, _)| known.trim().eq_ignore_ascii_case(name))
        .last()
        .map(|(_, value)| value.trim().trim_matches('"'))
}

/// Splits a text where the delimiter is not part of a quoted string (RFC 9110, section 5.6.4).
fn split(text: &str, delimiter: u8) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |character: char| {
        let is_delimiter = !is_quoted && character == char::from(delimiter);
        if is_escaped {
            is_escaped = false;
        } else if character == '"' {
            is_quoted = !is_quoted;
        } else {
            is_escaped = is_quoted && character == '\\';
        }
        is_delimiter
    })
}

/// Whether the text is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A quality from `0` to `1` with at most three decimals, in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = [100, 10, 1]
        .into_iter()
        .zip(decimals.bytes())
        .map(|(unit, digit)| unit * u16::from(digit - b'0'))
        .sum();
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: MediaType = MediaType {
        kind: "application",
        subtype: "json",
        version: None,
    };
    const VERSIONED: MediaType = MediaType {
        kind: "text",
        subtype: "plain",
        version: Some("2"),
    };

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT, http::HeaderValue::from_static(line));
        }
        headers
    }

    fn of_json(accept: &'static str) -> u16 {
        Accept::read(&headers(&[accept])).preference(&JSON).quality
    }

    #[test]
    fn qualities_are_thousandths() {
        for (text, thousandths) in [
            ("0", 0),
            ("0.", 0),
            ("0.000", 0),
            ("0.05", 50),
            ("0.5", 500),
            ("0.999", 999),
            ("1", 1_000),
            ("1.000", 1_000),
        ] {
            assert_eq!(quality(text), Some(thousandths), "{text}");
        }
        for text in ["", ".5", "1.001", "2", "0.0000", "-0", "0.x", "0,5", "1e0"] {
            assert_eq!(quality(text), None, "{text}");
        }
    }

    #[test]
    fn the_most_specific_range_determines_the_quality() {
        for (accept, quality) in [
            ("*/*", 1_000),
            ("*/*;q=0.2, application/*;q=0.3", 300),
            ("application/json;q=0.1, application/*, */*", 100),
            ("application/json;q=0, */*", 0),
            ("application/*;q=0, */*", 0),
            ("text/*, image/png", 0),
            ("application/json;q=0.1, application/json;q=0.2", 200),
            ("APPLICATION/Json; Q=0.7", 700),
            ("application/json; charset=utf-8; q=0.4", 400),
            (" , application/json ;q=0.4,", 400),
        ] {
            assert_eq!(of_json(accept), quality, "{accept}");
        }
    }

    #[test]
    fn a_version_must_match_if_the_range_names_one() {
        let of_text = |accept| {
            Accept::read(&headers(&[accept]))
                .preference(&VERSIONED)
                .quality
        };
        assert_eq!(of_text("text/plain;q=0.1, text/plain;version=2;q=0.2"), 200);
        assert_eq!(of_text("text/plain;version=\"2\""), 1_000);
        assert_eq!(of_text("text/plain;version=1"), 0);
        assert_eq!(of_text("text/plain;version=1, */*;q=0.3"), 300);
    }

    #[test]
    fn a_named_type_is_preferred_at_equal_quality() {
        let headers = headers(&["application/json, */*"]);
        let accept = Accept::read(&headers);
        assert!(accept.preference(&JSON) > accept.preference(&VERSIONED));
    }

    #[test]
    fn malformed_ranges_are_skipped_and_reported() {
        for malformed in [
            "nonsense",
            "text/",
            "/plain",
            "*/plain",
            "a b/c",
            "text/html;q=many",
            "caf\u{e9}/\u{e9}",
        ] {
            let mut headers = headers(&["application/json;q=0.4"]);
            headers.append(header::ACCEPT, malformed.parse().unwrap());
            let accept = Accept::read(&headers);
            assert!(accept.is_malformed(), "{malformed}");
            assert_eq!(accept.ranges().len(), 1, "{malformed}");
            assert_eq!(accept.preference(&JSON).quality, 400, "{malformed}");
        }
        assert!(!Accept::read(&headers(&["", "text/html"])).is_malformed());
    }

    #[test]
    fn delimiters_in_quoted_strings_do_not_split() {
        let accept = "text/html;title=\"a, b; q=0 \\\" c\", application/json;q=0.6";
        let headers = headers(&[accept]);
        let accept = Accept::read(&headers);
        assert!(!accept.is_malformed());
        let qualities: Vec<u16> = accept.ranges().iter().map(|range| range.quality).collect();
        assert_eq!(qualities, [1_000, 600]);
    }
}
