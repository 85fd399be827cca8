//! The OTLP exporter, by gRPC or by HTTP.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    Compression, ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};

/// How spans travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `http/protobuf`.
    Http,
    /// `grpc`.
    Grpc,
}

impl Protocol {
    pub(super) fn default_endpoint(self) -> &'static str {
        match self {
            Self::Http => "http://localhost:4318/v1/traces",
            Self::Grpc => "http://localhost:4317",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// Where spans go, and how.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    pub(super) endpoint: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
}

/// The URL that spans are sent to. One for all signals gets the path of traces over
/// HTTP, one for traces (`own`) is used as it is. Only gRPC knows endpoints without
/// a scheme.
pub(super) fn endpoint(
    text: &str,
    protocol: Protocol,
    own: bool,
    insecure: bool,
) -> Option<String> {
    let text = match protocol {
        Protocol::Grpc if !text.contains("://") => {
            format!("{}://{text}", if insecure { "http" } else { "https" })
        }
        _ => text.to_owned(),
    };
    let uri = text.parse::<Uri>().ok()?;
    let usable = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty());
    if !usable {
        return None;
    }
    Some(match protocol {
        Protocol::Http if !own => format!("{}/v1/traces", text.trim_end_matches('/')),
        _ => text,
    })
}

impl Settings {
    /// Where spans go, without what may be secret.
    pub(super) fn host(&self) -> String {
        self.endpoint
            .parse::<Uri>()
            .ok()
            .and_then(|uri| {
                let host = uri.host()?.to_owned();
                Some(match uri.port_u16() {
                    Some(port) => format!("{host}:{port}"),
                    None => host,
                })
            })
            .unwrap_or_default()
    }

    /// Every value is handed over, so that the exporter's own look at the process
    /// environment finds nothing left to decide. Needs a Tokio runtime.
    pub(super) fn build(&self) -> Result<SpanExporter, ExporterBuildError> {
        let compression = self.gzip.then_some(Compression::Gzip);
        match self.protocol {
            Protocol::Http => {
                let mut builder = SpanExporter::builder()
                    .with_http()
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(&self.endpoint)
                    .with_timeout(self.timeout)
                    .with_headers(self.headers.iter().cloned().collect::<HashMap<_, _>>());
                if let Some(compression) = compression {
                    builder = builder.with_compression(compression);
                }
                builder.build()
            }
            Protocol::Grpc => {
                let headers = self
                    .headers
                    .iter()
                    .filter_map(|(name, value)| {
                        let name = HeaderName::from_str(name).ok()?;
                        Some((name, HeaderValue::from_str(value).ok()?))
                    })
                    .collect();
                let mut builder = SpanExporter::builder()
                    .with_tonic()
                    .with_protocol(opentelemetry_otlp::Protocol::Grpc)
                    .with_endpoint(&self.endpoint)
                    .with_timeout(self.timeout)
                    .with_metadata(MetadataMap::from_headers(headers));
                if let Some(compression) = compression {
                    builder = builder.with_compression(compression);
                }
                builder.build()
            }
        }
    }
}
