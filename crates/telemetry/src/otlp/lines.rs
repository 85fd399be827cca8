//! The exporter of log lines: the library encodes them, [`Sender`] sends them, as it
//! sends spans. The library's own way keeps the collector's answer to itself.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response, StatusCode, header};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{LogExporter, RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};

use super::queue::Taken;
use super::sender::Sender;
use super::transport::Failure;

/// Encodes log lines and sends them.
#[derive(Debug)]
pub(crate) struct LineExporter {
    encoder: LogExporter,
    courier: Courier,
}

impl LineExporter {
    pub(super) fn new(resource: &Resource, sender: Sender) -> anyhow::Result<Self> {
        let courier = Courier(Arc::new(Errand {
            sender,
            outcome: Mutex::default(),
        }));
        let mut encoder = LogExporter::builder()
            .with_http()
            .with_http_client(courier.clone())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_retry_policy(RetryPolicy::disabled())
            // Only the sender knows the way.
            .with_endpoint("http://localhost")
            .build()?;
        encoder.set_resource(resource);
        Ok(Self { encoder, courier })
    }

    /// Sends a batch until the collector has acknowledged it, or there is no hope or no
    /// time.
    ///
    /// # Errors
    /// Why the last try failed.
    pub(crate) async fn send(&self, batch: LogBatch<'_>) -> Result<Taken, Failure> {
        let encoded = self.encoder.export(batch).await;
        let outcome = self.courier.outcome().take();
        outcome.unwrap_or_else(|| {
            let why = encoded.err().map(|error| error.to_string());
            Err(Failure::Encoding(why.unwrap_or_default()))
        })
    }
}

/// What the library takes for an HTTP client.
#[derive(Debug, Clone)]
struct Courier(Arc<Errand>);

#[derive(Debug)]
struct Errand {
    sender: Sender,
    /// Of the last request.
    outcome: Mutex<Option<Result<Taken, Failure>>>,
}

impl Courier {
    fn outcome(&self) -> std::sync::MutexGuard<'_, Option<Result<Taken, Failure>>> {
        let outcome = self.0.outcome.lock();
        outcome.unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HttpClient for Courier {
    /// The library hears that a request was taken or refused, and no more.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outcome = self.0.sender.send(plain(request)?).await;
        let mut answer = Response::new(Bytes::new());
        if outcome.is_err() {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
        }
        *self.outcome() = Some(outcome);
        Ok(answer)
    }
}

/// The library compresses when it finds a variable about that. Whether and how is the
/// transport's to know.
fn plain(request: Request<Bytes>) -> std::io::Result<Bytes> {
    if !request.headers().contains_key(header::CONTENT_ENCODING) {
        return Ok(request.into_body());
    }
    let mut plain = Vec::new();
    GzDecoder::new(&**request.body()).read_to_end(&mut plain)?;
    Ok(plain.into())
}
