//! Settings of an OTLP exporter, and its transport over gRPC or HTTP.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Signal;
use super::exporter::Exporter;
use super::sender::Sender;
use super::transport::{Grpc, Http, Transport};
use super::variables::percent_decode;
use crate::service::Service;

/// Transport protocol of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `http/protobuf`.
    Http,
    /// `grpc`.
    Grpc,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// Destination and transport of a signal.
#[derive(Debug)]
pub(crate) struct ExporterSettings {
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    pub(crate) gzip: bool,
    /// File with the CA certificates (PEM) for the collector. Replaces those of the system.
    pub(crate) certificate: Option<String>,
    /// Files with the client certificate chain (PEM) and its key.
    pub(crate) client: Option<(String, String)>,
}

/// The URL of a signal. Over HTTP, the common endpoint is extended by the path of the signal, and
/// the signal's `own` endpoint is used as it is. Only gRPC allows endpoints without a scheme.
pub(super) fn endpoint(
    text: &str,
    protocol: Protocol,
    signal: &Signal,
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
        Protocol::Http if !own => format!("{}{}", text.trim_end_matches('/'), signal.path),
        _ => text,
    })
}

/// Moves credentials from an endpoint to an `authorization` header, because HTTP libraries log
/// URLs.
pub(super) fn without_credentials(endpoint: String) -> (String, Option<(String, String)>) {
    let uri = endpoint.parse::<Uri>().ok();
    let user = uri
        .as_ref()
        .and_then(Uri::authority)
        .and_then(|authority| Some(authority.as_str().rsplit_once('@')?.0));
    let Some(user) = user else {
        return (endpoint, None);
    };
    let bare = endpoint.replacen(&format!("{user}@"), "", 1);
    // The password may be empty.
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let plain = |part: &str| percent_decode(part).unwrap_or_else(|| part.to_owned());
    let plain = format!("{}:{}", plain(name), plain(password));
    let basic = format!("Basic {}", BASE64.encode(plain));
    (bare, Some(("authorization".to_owned(), basic)))
}

/// Whether name and value are a valid HTTP header.
pub(super) fn is_header((name, value): &(String, String)) -> bool {
    HeaderName::from_str(name).is_ok() && HeaderValue::from_str(value).is_ok()
}

impl ExporterSettings {
    /// Host and port, without parts that may be secret.
    fn host(&self) -> String {
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

    /// Certificates of `OTEL_EXPORTER_OTLP_CERTIFICATE`. An unreadable file ends the export,
    /// because falling back to the system's certificates would weaken the configuration.
    fn certificates(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = self.certificate.as_ref().filter(|_| self.is_tls()) else {
            return Ok(None);
        };
        let pem = std::fs::read(path).context("the file of OTEL_EXPORTER_OTLP_CERTIFICATE")?;
        Ok(Some(pem))
    }

    /// Client certificate and key of `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and `…CLIENT_KEY`.
    fn client(&self) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some((certificate, key)) = self.client.as_ref().filter(|_| self.is_tls()) else {
            return Ok(None);
        };
        let read = |path, variable| {
            std::fs::read(path)
                .with_context(|| format!("the file of OTEL_EXPORTER_OTLP_CLIENT_{variable}"))
        };
        Ok(Some((read(certificate, "CERTIFICATE")?, read(key, "KEY")?)))
    }

    /// Host and protocol, for people.
    pub(crate) fn destination(&self) -> String {
        format!("{} ({})", self.host(), self.protocol.as_str())
    }

    /// The exporter of a signal. Needs a Tokio runtime.
    pub(crate) fn exporter<E>(
        &self,
        signal: &Signal,
        encoder: E,
        service: &Service,
    ) -> anyhow::Result<Exporter<E>> {
        Ok(Exporter::new(encoder, self.sender(signal, service)?))
    }

    fn sender(&self, signal: &Signal, service: &Service) -> anyhow::Result<Sender> {
        let agent = service.user_agent();
        let transport = match self.protocol {
            Protocol::Http => {
                let client = self.http_client()?;
                let endpoint = self.endpoint.parse()?;
                let mut headers = HeaderMap::new();
                headers.insert(header::USER_AGENT, agent.parse()?);
                headers.extend(self.headers());
                Transport::Http(Http::new(client, endpoint, &headers, self.gzip))
            }
            Protocol::Grpc => {
                let method = PathAndQuery::from_static(signal.method);
                let metadata = MetadataMap::from_headers(self.headers());
                let grpc = Grpc::new(self.channel(agent)?, method, metadata, self.gzip);
                Transport::Grpc(Box::new(grpc))
            }
        };
        Ok(Sender::new(transport, self.timeout, signal.plural))
    }

    fn headers(&self) -> HeaderMap {
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_str(name).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        headers.collect()
    }

    /// A gRPC channel, connected at first use.
    fn channel(&self, agent: String) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())?.user_agent(agent)?;
        let endpoint = if self.is_tls() {
            endpoint.tls_config(self.tls()?)?
        } else {
            endpoint
        };
        Ok(endpoint.timeout(self.timeout).connect_lazy())
    }

    /// TLS configuration of gRPC.
    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new();
        if let Some((certificate, key)) = self.client()? {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Ok(match self.certificates()? {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        })
    }

    /// A client without redirects, because headers may contain credentials for this endpoint.
    fn http_client(&self) -> anyhow::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::none());
        let client = match self.certificates()? {
            Some(pem) => client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?),
            None if self.is_tls() => client,
            // Plain HTTP needs no certificates, and minimal images have none to load.
            None => client.tls_certs_only([]),
        };
        let client = match self.client()? {
            Some((certificate, key)) => {
                let both = [certificate, b"\n".to_vec(), key].concat();
                client.identity(reqwest::Identity::from_pem(&both)?)
            }
            None => client,
        };
        Ok(client.build()?)
    }
}
