//! Content negotiation of the metrics page (RFC 9110, section 12.5.1).
//!
//! `headers-accept` 0.3 is not used for two reasons. It compares all parameters, so that ranges with
//! the `escaping` of Prometheus 3, or with a quality and no version, match neither format. And a
//! single malformed range invalidates the whole header.

use http::{HeaderMap, header};

/// A format of the metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }

    /// The format that the client prefers. Text is the default, also for clients that accept
    /// neither format: a page is more useful than a 406.
    #[must_use]
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let ranges: Vec<Range> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(Range::parse)
            .collect();
        let text = weight(&ranges, Self::Text);
        let open_metrics = weight(&ranges, Self::OpenMetrics);
        // At equal quality, a format that is named has precedence over one that is matched by a
        // wildcard.
        if open_metrics.quality > 0 && open_metrics > text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// Preference of a format. Greater is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Weight {
    quality: u16,
    specificity: u8,
}

/// The most specific range that matches a format determines its quality.
fn weight(ranges: &[Range], format: Format) -> Weight {
    let (kind, subtype, version) = format.parts();
    let covering = ranges.iter().filter_map(|range| {
        let specificity = match (range.kind.as_str(), range.subtype.as_str()) {
            ("*", "*") => 1,
            (own, "*") if own == kind => 2,
            (own_kind, own) if own_kind == kind && own == subtype => match &range.version {
                None => 3,
                Some(asked) if asked == version => 4,
                Some(_) => return None,
            },
            _ => return None,
        };
        Some(Weight {
            quality: range.quality,
            specificity,
        })
    });
    covering
        .max_by_key(|weight| (weight.specificity, weight.quality))
        .unwrap_or_default()
}

/// A media range. Parameters other than `version` are not compared.
#[derive(Debug)]
struct Range {
    kind: String,
    subtype: String,
    version: Option<String>,
    /// In thousandths.
    quality: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self {
            kind: kind.trim().to_ascii_lowercase(),
            subtype: subtype.trim().to_ascii_lowercase(),
            version: None,
            quality: 1_000,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value.to_owned()),
                "q" => range.quality = quality(value)?,
                _ => {}
            }
        }
        Some(range)
    }
}

/// A quality from `0` to `1` with at most three decimals.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &[&'static str]) -> Format {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(header::ACCEPT, http::HeaderValue::from_static(line));
        }
        Format::negotiate(&headers)
    }

    #[test]
    fn the_accept_headers_of_prometheus_are_honoured() {
        // The `Accept` headers of Prometheus 2.53 and 3.5.
        let by_default = "application/openmetrics-text;version=1.0.0;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(chosen(&[by_default]), Format::OpenMetrics);
        let text_first = "text/plain;version=0.0.4;q=0.6,\
            application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1";
        assert_eq!(chosen(&[text_first]), Format::Text);
    }

    #[test]
    fn text_is_the_default() {
        for accept in [
            &[][..],
            &["*/*"],
            &["text/html, */*;q=0.1"],
            &["text/*"],
            &["image/png"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;version=2.0.0"],
            &["application/openmetrics-text;q=many"],
            &["application/openmetrics-text;q=0.5, text/plain;q=0.5"],
            &["nonsense"],
        ] {
            assert_eq!(chosen(accept), Format::Text, "{accept:?}");
        }
    }

    #[test]
    fn open_metrics_must_be_preferred() {
        for accept in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"],
            &["application/openmetrics-text, */*"],
            &["application/*"],
            &["text/plain;q=0.5", "application/openmetrics-text;q=0.501"],
            &["text/plain;q=0, */*"],
        ] {
            assert_eq!(chosen(accept), Format::OpenMetrics, "{accept:?}");
        }
    }
}
