//! TLS on the public listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::REQUEST;
use crate::support::{Backend, Service, eventually};
use crate::telemetry::{exporting, sink::Sink};

/// A certificate for `localhost`, and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn make() -> Self {
        Self::until(4096)
    }

    /// A certificate that expires at the start of a year.
    fn until(year: i32) -> Self {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        Self {
            certificate: parameters.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn write(&self, folder: &std::path::Path) {
        std::fs::write(folder.join("cert.pem"), &self.certificate).unwrap();
        std::fs::write(folder.join("key.pem"), &self.key).unwrap();
    }
}

/// Connects as a client that trusts only this certificate.
async fn connect(
    service_address: &str,
    trusted: &Pair,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(service_address).await?;
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Waits for the start on the admin listener, because the harness checks readiness over plain HTTP.
/// Returns the address of the public listener.
async fn started(service: &mut Service) -> String {
    service.wait_admin().await;
    let url = service.admin("/health/ready");
    eventually("ready", async || {
        let answer = service.client.get(&url).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    eventually("the public listener", async || {
        service.logs().iter().find_map(|line| {
            (line["listener"] == "public").then(|| line["address"].as_str().map(str::to_owned))?
        })
    })
    .await
}

async fn a_broken_pair_is_logged(service: &Service) {
    eventually("a line about the broken pair", async || {
        let lines = service.logs();
        let is_warning = |line: &serde_json::Value| {
            line["message"] == "the new certificate is invalid; the previous one remains in use"
        };
        lines.iter().any(is_warning).then_some(())
    })
    .await;
}

#[tokio::test]
async fn both_protocols_are_served_and_a_new_certificate_needs_no_restart() {
    let (first, second) = (Pair::make(), Pair::make());
    let folder = tempfile::tempdir().unwrap();
    first.write(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sink = Sink::start();
    let mut service = exporting(&sink)
        .env("APP__HTTP__TLS__CERT_FILE", path("cert.pem"))
        .env("APP__HTTP__TLS__KEY_FILE", path("key.pem"))
        .env("APP__HTTP__HEADER_TIMEOUT", "500ms")
        .spawn()
        .await;
    let address = started(&mut service).await;

    let mut stream = connect(&address, &first, b"http/1.1").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\"pong\"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.contains("strict-transport-security: max-age="),
        "{answer}"
    );
    let span = sink.span("ping", |span| span.text("http.route").is_some());
    assert_eq!(span.await.text("url.scheme").as_deref(), Some("https"));

    let stream = connect(&address, &first, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driven = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/api/v1/ping");
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], br#"{"message":"pong"}"#);

    // An unfinished TLS handshake is limited like an unfinished header.
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(&[0x16, 3, 1]).await.unwrap();
    let began = Instant::now();
    let _ended = tokio::time::timeout(Duration::from_secs(10), half.read_to_end(&mut Vec::new()))
        .await
        .expect("it was closed");
    assert!(
        began.elapsed() >= Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );

    // A certificate without its key keeps the old pair.
    std::fs::write(path("cert.pem"), &second.certificate).unwrap();
    a_broken_pair_is_logged(&service).await;
    connect(&address, &first, b"h2").await.unwrap();

    second.write(folder.path());
    eventually("the new certificate", async || {
        connect(&address, &second, b"h2").await.ok()
    })
    .await;
    assert!(connect(&address, &first, b"h2").await.is_err());
    // The old certificate is still served.
    let request = http::Request::get("https://localhost/api/v1/ping");
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    driven.abort();
    assert_eq!(service.terminate().await, Some(0));
}

/// The expiry metric of the certificate, if present.
async fn expiry(service: &Service) -> Option<f64> {
    let metrics = service.metrics().await;
    metrics.get("tls_certificate_expiry_timestamp_seconds", &[])
}

#[tokio::test]
async fn the_metric_shows_the_expiry_of_the_served_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (first, second, issuer) = (Pair::until(2060), Pair::until(2061), Pair::until(2040));
    first.write(folder.path());
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__TLS__CERT_FILE", path("cert.pem"))
        .env("APP__HTTP__TLS__KEY_FILE", path("key.pem"))
        .spawn()
        .await;
    started(&mut service).await;
    assert_eq!(expiry(&service).await, Some(2_840_140_800.0));

    second.write(folder.path());
    eventually("the new certificate's", async || {
        (expiry(&service).await == Some(2_871_763_200.0)).then_some(())
    })
    .await;
    // Clients reject a chain with an expired issuer.
    let chain = [second.certificate, issuer.certificate].concat();
    std::fs::write(path("cert.pem"), chain).unwrap();
    eventually("the chain's", async || {
        (expiry(&service).await == Some(2_208_988_800.0)).then_some(())
    })
    .await;
    // The metric does not show a rejected certificate.
    std::fs::write(path("cert.pem"), &first.certificate).unwrap();
    a_broken_pair_is_logged(&service).await;
    assert_eq!(expiry(&service).await, Some(2_208_988_800.0));

    let plain = Service::start(Backend::Sqlite).await;
    assert_eq!(expiry(&plain).await, None);
}

#[tokio::test]
async fn an_incomplete_or_wrong_key_pair_fails_the_start() {
    let (pair, other) = (Pair::make(), Pair::make());
    for (what, certificate, key) in [
        ("no key", Some(&pair.certificate), None),
        ("no certificate", None, Some(&pair.key)),
        ("another's key", Some(&pair.certificate), Some(&other.key)),
        ("no PEM", Some(&pair.key), Some(&pair.key)),
    ] {
        let mut builder = Service::builder(Backend::Sqlite);
        if let Some(certificate) = certificate {
            builder = builder.env("APP__HTTP__TLS__CERT", certificate);
        }
        if let Some(key) = key {
            builder = builder.env("APP__HTTP__TLS__KEY", key);
        }
        let mut service = builder.spawn().await;
        assert_eq!(service.wait().await.code(), Some(64), "{what}");
        let said = [service.stderr(), service.stdout()].concat().join("\n");
        assert!(said.contains("http.tls."), "{what}: {said}");
        assert!(!said.contains("PRIVATE KEY"), "{what}: {said}");
    }
}

#[tokio::test]
async fn an_unfinished_handshake_does_not_delay_the_exit() {
    let (folder, pair) = (tempfile::tempdir().unwrap(), Pair::make());
    pair.write(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__TLS__CERT_FILE", path("cert.pem"))
        .env("APP__HTTP__TLS__KEY_FILE", path("key.pem"))
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .spawn()
        .await;
    let address = started(&mut service).await;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    // The head of a TLS record without its content.
    silent.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    eventually("it is accepted", async || {
        let open = service.metrics().await;
        (open.get("http_connections_open", &[("listener", "public")]) >= Some(1.0)).then_some(())
    })
    .await;
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(0), "closing it is no cut");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
