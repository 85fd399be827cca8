//! The formats of the metrics page, and the choice between them.

use http::HeaderMap;

use crate::accept::{Accept, MediaType};

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

    fn media_type(self) -> MediaType {
        let (kind, subtype, version) = match self {
            Self::Text => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        };
        MediaType {
            kind,
            subtype,
            version: Some(version),
        }
    }

    /// The format that the client prefers. Text is the default, also for clients that accept
    /// neither format: a page is more useful than a 406.
    #[must_use]
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let accept = Accept::read(headers);
        let text = accept.preference(&Self::Text.media_type());
        let open_metrics = accept.preference(&Self::OpenMetrics.media_type());
        if open_metrics.quality > 0 && open_metrics > text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header;

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
