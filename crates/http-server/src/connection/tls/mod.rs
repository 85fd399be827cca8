//! TLS on the public listener (rustls). The certificate is read again when its files change. Open
//! connections keep the certificate that they began with.

mod expiry;

use std::sync::{Arc, PoisonError, RwLock};

use lifecycle::Lifecycle;
use prometheus::IntGauge;
use settings::{FileChange, SecretSource, WatchedFiles};
use telemetry::metrics;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Reason why a certificate and its key cannot be used. It contains no text of the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text is not PEM, or contains no certificate.
    #[error("the certificate is not a PEM certificate chain")]
    Certificate,
    /// The text is not PEM, or contains no private key.
    #[error("the key is not a PEM private key")]
    Key,
    /// Certificate and key do not match, or their kind is not supported.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

metrics! {
    /// The certificate of the public listener. It is registered only when TLS is on.
    pub struct TlsMetrics {
        /// Expiry of the served certificate chain, as seconds since the epoch. It is the earliest
        /// expiry of the chain's certificates.
        pub expiry: IntGauge = "tls_certificate_expiry_timestamp_seconds";
    }
}

/// The current certificate. Clones are cheap and share it.
#[derive(Clone)]
pub struct Tls {
    present: Arc<RwLock<TlsAcceptor>>,
    sources: [SecretSource; 2],
    /// Expiry of the certificate at start-up.
    expiry: i64,
    metrics: Option<TlsMetrics>,
}

/// A certificate with its key, ready to be served.
struct Pair {
    acceptor: TlsAcceptor,
    /// The earliest expiry of the chain's certificates, as seconds since the epoch.
    expiry: i64,
}

impl Tls {
    /// Loads a certificate chain and its key (PEM). `None` when one of them is missing and the
    /// listener is plain.
    ///
    /// # Errors
    /// When certificate and key are not a pair.
    pub fn new(
        certificate: Option<&SecretSource>,
        key: Option<&SecretSource>,
    ) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (certificate, key) else {
            return Ok(None);
        };
        let pair = pair(certificate.content.expose(), key.content.expose())?;
        Ok(Some(Self {
            present: Arc::new(RwLock::new(pair.acceptor)),
            sources: [certificate.clone(), key.clone()],
            expiry: pair.expiry,
            metrics: None,
        }))
    }

    /// Records the expiry of the current certificate, and of each later one, in `metrics`.
    #[must_use]
    pub fn observed(self, metrics: TlsMetrics) -> Self {
        metrics.expiry.set(self.expiry);
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Performs the handshake.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let handshake = {
            let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
            present.accept(stream)
        };
        handshake.await
    }

    /// Watches the files, if the certificate is in files. A broken pair keeps the old certificate,
    /// because the two files are written one after the other.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let Some(files) = WatchedFiles::new(self.sources.to_vec()) else {
            return;
        };
        let (tls, stop) = (self.clone(), lifecycle.soft());
        lifecycle.spawn(
            "certificate watch",
            files.watch(stop, move |look| tls.take(look)),
        );
    }

    fn take(&self, look: FileChange) {
        match look {
            FileChange::Same => {}
            FileChange::Changed(contents) => {
                let [certificate, key] = &contents[..] else {
                    return;
                };
                match pair(certificate.expose(), key.expose()) {
                    Ok(pair) => {
                        *self.present.write().unwrap_or_else(PoisonError::into_inner) =
                            pair.acceptor;
                        if let Some(metrics) = &self.metrics {
                            metrics.expiry.set(pair.expiry);
                        }
                        tracing::info!("the certificate was reloaded");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the new certificate is invalid; the previous one remains in use");
                    }
                }
            }
            FileChange::Unreadable(error) => {
                tracing::warn!(%error, "the certificate cannot be read; the previous one remains in use");
            }
        }
    }
}

/// TLS 1.2 and 1.3 with the default suites of rustls. HTTP/2 is used when the client supports it.
fn pair(certificate: &str, key: &str) -> Result<Pair, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Certificate)?;
    let expiries = chain
        .iter()
        .map(|certificate| expiry::not_after(certificate))
        .collect::<Option<Vec<_>>>();
    let expiry = expiries.and_then(|all| all.into_iter().min());
    let expiry = expiry.ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Pair {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        expiry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn only_a_certificate_and_its_own_key_are_accepted() {
        let ((certificate, key), (_, other)) = (made(), made());
        assert!(pair(&certificate, &key).is_ok());
        let error = |certificate: &str, key: &str| pair(certificate, key).err().unwrap();
        assert!(matches!(error(&certificate, &other), TlsError::Pair(_)));
        assert!(matches!(error("", &key), TlsError::Certificate));
        assert!(matches!(error(&key, &key), TlsError::Certificate));
        assert!(matches!(error(&certificate, &certificate), TlsError::Key));
    }
}
