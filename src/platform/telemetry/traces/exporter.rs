//! The OTLP exporter, by gRPC or by HTTP.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderName, HeaderValue, Uri};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    Compression, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
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
    /// File with the certificates (PEM) that the collector's is checked against,
    /// instead of the system's.
    pub(super) certificate: Option<String>,
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

    fn is_tls(&self) -> bool {
        self.endpoint.starts_with("https:")
    }

    /// The certificates of `OTEL_EXPORTER_OTLP_CERTIFICATE`. A file that cannot be
    /// read ends the export: to trust the system's instead would be a surprise.
    fn certificates(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = self.certificate.as_ref().filter(|_| self.is_tls()) else {
            return Ok(None);
        };
        let pem = std::fs::read(path).context("the file of OTEL_EXPORTER_OTLP_CERTIFICATE")?;
        Ok(Some(pem))
    }

    /// Every value is handed over, so that the exporter's own look at the process
    /// environment finds nothing left to decide. Needs a Tokio runtime.
    pub(super) fn build(&self) -> anyhow::Result<SpanExporter> {
        let compression = self.gzip.then_some(Compression::Gzip);
        Ok(match self.protocol {
            Protocol::Http => {
                let mut builder = SpanExporter::builder()
                    .with_http()
                    .with_http_client(self.http_client()?)
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(&self.endpoint)
                    .with_timeout(self.timeout)
                    .with_headers(self.headers.iter().cloned().collect::<HashMap<_, _>>());
                if let Some(compression) = compression {
                    builder = builder.with_compression(compression);
                }
                builder.build()?
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
                if self.is_tls() {
                    let tls = ClientTlsConfig::new();
                    builder = builder.with_tls_config(match self.certificates()? {
                        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                        None => tls.with_native_roots(),
                    });
                }
                if let Some(compression) = compression {
                    builder = builder.with_compression(compression);
                }
                builder.build()?
            }
        })
    }

    /// Follows no redirect: headers may be credentials for this endpoint only.
    fn http_client(&self) -> anyhow::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::none());
        let client = match self.certificates()? {
            Some(pem) => client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?),
            None if self.is_tls() => client,
            // Trusts nobody: a minimal image has no certificates to load.
            None => client.tls_certs_only([]),
        };
        Ok(client.build()?)
    }
}
