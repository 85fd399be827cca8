//! TLS certificates of the collector and of the service.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::super::sink::Sink;
use super::super::{get, logging_to};
use super::PING;

/// A certificate for the loopback address, and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        Self {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// A TLS proxy in front of the sink. Requires client certificates signed by `client`, if given.
/// Returns its address.
async fn tls_proxy(sink: SocketAddr, server: &Pair, client: Option<&Pair>) -> SocketAddr {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let mut known = RootCertStore::empty();
            known.add(client.der()).unwrap();
            let known = WebPkiClientVerifier::builder_with_provider(Arc::new(known), provider);
            config.with_client_cert_verifier(known.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let mut config = config.with_single_cert(vec![server.der()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Clients without a valid certificate do not reach the sink.
                let Ok(mut tls) = acceptor.accept(stream).await else {
                    return;
                };
                let mut plain = tokio::net::TcpStream::connect(sink).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    address
}

/// Whether spans and log lines arrive. `set` pairs variables with files of `folder`.
async fn arrivals(
    protocol: &str,
    folder: &Path,
    client: Option<&Pair>,
    server: &Pair,
    set: &[(&str, &str)],
) -> (bool, bool) {
    let sink = Sink::start();
    let front = tls_proxy(sink.address(), server, client).await;
    let mut builder = logging_to(&sink)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{front}"))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("APP__TELEMETRY__FLUSH_TIMEOUT", "2s");
    for (name, file) in set {
        let name = format!("OTEL_EXPORTER_OTLP_{name}");
        builder = builder.env(&name, folder.join(file).display().to_string());
    }
    let mut service = builder.start().await;
    assert_eq!(get(&service, PING, &[]).await.status, 200);
    assert_eq!(service.terminate().await, Some(0));
    (!sink.spans().is_empty(), !sink.lines().is_empty())
}

async fn certificates(protocol: &str) {
    const TRUST: (&str, &str) = ("CERTIFICATE", "collector.pem");
    const SHOW: [(&str, &str); 2] = [
        ("CLIENT_CERTIFICATE", "client.pem"),
        ("CLIENT_KEY", "client.key"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (server, client, other) = (Pair::make(), Pair::make(), Pair::make());
    for (name, text) in [
        ("collector.pem", &server.certificate),
        ("other.pem", &other.certificate),
        ("client.pem", &client.certificate),
        ("client.key", &client.key),
        ("other.key", &other.key),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let (nothing, both) = ((false, false), (true, true));
    for (set, expected) in [
        (&[][..], nothing),
        (&[TRUST], both),
        (&[("TRACES_CERTIFICATE", "collector.pem")], (true, false)),
        (&[("LOGS_CERTIFICATE", "collector.pem")], (false, true)),
        (&[TRUST, ("TRACES_CERTIFICATE", "other.pem")], (false, true)),
        (&[TRUST, ("LOGS_CERTIFICATE", "missing.pem")], (true, false)),
    ] {
        let seen = arrivals(protocol, folder.path(), None, &server, set).await;
        assert_eq!(seen, expected, "{protocol} {set:?}");
    }
    for (set, expected) in [
        (&[TRUST][..], nothing),
        (&[TRUST, SHOW[0], SHOW[1]], both),
        // A certificate without a key is ignored.
        (&[TRUST, SHOW[0]], nothing),
        (
            &[
                TRUST,
                ("TRACES_CLIENT_CERTIFICATE", "client.pem"),
                ("TRACES_CLIENT_KEY", "client.key"),
            ],
            (true, false),
        ),
        (
            &[
                TRUST,
                SHOW[0],
                SHOW[1],
                ("TRACES_CLIENT_CERTIFICATE", "other.pem"),
                ("TRACES_CLIENT_KEY", "other.key"),
            ],
            (false, true),
        ),
        (
            &[TRUST, SHOW[0], SHOW[1], ("LOGS_CLIENT_KEY", "missing.key")],
            (true, false),
        ),
    ] {
        let seen = arrivals(protocol, folder.path(), Some(&client), &server, set).await;
        assert_eq!(seen, expected, "{protocol} {set:?}");
    }
}

#[tokio::test]
async fn certificates_by_http() {
    certificates("http/protobuf").await;
}

#[tokio::test]
async fn certificates_by_grpc() {
    certificates("grpc").await;
}
