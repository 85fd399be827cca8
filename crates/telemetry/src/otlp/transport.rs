//! A single attempt to send a request to a collector, over HTTP or gRPC.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::Url;
use settings::clock::system_time;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::acknowledgement;
use super::queue::Acknowledgement;
use super::retry::Retry;

/// Size limit of a request before compression, which collectors must accept.
const MAX_REQUEST: usize = 64 << 20;
/// Size limit of a response. Acknowledgements are far smaller.
const MAX_RESPONSE: usize = 4 << 20;

/// Reason why a request was not acknowledged. Text of the collector is not included, because it may
/// repeat credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("a request of {0} bytes is too large")]
    TooLarge(usize),
    #[error("a request cannot be compressed: {0}")]
    Compression(#[from] std::io::Error),
    #[error("no response{}", because(why.as_ref()))]
    NoResponse { why: Option<String>, retry: Retry },
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// Not retried: the collector may have stored the batch.
    #[error(
        "the response is not OTLP and acknowledges nothing, check that the endpoint is a collector"
    )]
    Unacknowledged,
    #[error("HTTP status {status}")]
    Http { status: StatusCode, retry: Retry },
    #[error("gRPC status {code:?}{}", because(why.as_ref()))]
    Grpc {
        code: Code,
        why: Option<String>,
        retry: Retry,
    },
}

/// The innermost cause of an error (`Connection refused`). The error itself repeats the URL, which
/// may contain a secret.
fn root_cause(error: &(dyn Error + 'static)) -> Option<String> {
    let mut root = error.source()?;
    while let Some(source) = root.source() {
        root = source;
    }
    Some(root.to_string())
}

fn because(why: Option<&String>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

impl ExportError {
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::TooLarge(_) | Self::Compression(_) | Self::TimedOut(_) | Self::Unacknowledged => {
                Retry::Never
            }
            Self::NoResponse { retry, .. }
            | Self::Http { retry, .. }
            | Self::Grpc { retry, .. } => *retry,
        }
    }
}

impl From<reqwest::Error> for ExportError {
    fn from(error: reqwest::Error) -> Self {
        Self::NoResponse {
            why: root_cause(&error),
            retry: Retry::Later,
        }
    }
}

impl From<Status> for ExportError {
    fn from(status: Status) -> Self {
        let info = status.get_details_retry_info();
        let delay = info.and_then(|info| info.retry_delay);
        Self::Grpc {
            code: status.code(),
            // The cause of a connection error. A status from a collector has no source.
            why: root_cause(&status),
            retry: Retry::of_grpc(status.code(), delay),
        }
    }
}

/// The transport of an exporter.
#[derive(Debug)]
pub(super) enum Transport {
    Http(Http),
    Grpc(Box<Grpc>),
}

impl Transport {
    /// The body of a request, shared by all attempts.
    pub(super) fn body(&self, request: Bytes) -> Result<Bytes, ExportError> {
        if request.len() > MAX_REQUEST {
            return Err(ExportError::TooLarge(request.len()));
        }
        match self {
            Self::Http(http) if http.gzip => Ok(gzip(&request)?.into()),
            // gRPC compresses each message itself.
            Self::Http(_) | Self::Grpc(_) => Ok(request),
        }
    }

    /// Sends a body and returns the acknowledgement.
    pub(super) async fn send(&self, body: Bytes) -> Result<Acknowledgement, ExportError> {
        let taken = match self {
            Self::Http(http) => {
                let (headers, body) = http.send(body).await?;
                acknowledgement::of_http(&headers, &body)
            }
            Self::Grpc(grpc) => acknowledgement::of_grpc(&grpc.send(body).await?),
        };
        taken.ok_or(ExportError::Unacknowledged)
    }
}

fn gzip(request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(request)?;
    encoder.finish()
}

/// `POST` with `application/x-protobuf`.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    endpoint: Url,
    headers: HeaderMap,
    gzip: bool,
}

impl Http {
    /// The headers of the operator override those of the exporter. Later headers override earlier
    /// ones with the same name.
    pub(super) fn new(
        client: reqwest::Client,
        endpoint: Url,
        headers: &HeaderMap,
        gzip: bool,
    ) -> Self {
        let mut all = HeaderMap::new();
        all.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if gzip {
            all.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for (name, value) in headers {
            all.insert(name, value.clone());
        }
        Self {
            client,
            endpoint,
            headers: all,
            gzip,
        }
    }

    /// Sends a body and returns headers and body of a successful response.
    async fn send(&self, body: Bytes) -> Result<(HeaderMap, Bytes), ExportError> {
        let request = self.client.post(self.endpoint.clone());
        let request = request.headers(self.headers.clone()).body(body);
        let mut response = request.send().await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_RESPONSE {
                // Not retried: the collector may have stored the batch.
                return Err(ExportError::NoResponse {
                    why: Some("the response is too large".to_owned()),
                    retry: Retry::Never,
                });
            }
            body.extend_from_slice(&chunk);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            Ok((headers, body.freeze()))
        } else {
            let retry = Retry::of_http(status, &headers, system_time());
            Err(ExportError::Http { status, retry })
        }
    }
}

/// Unary gRPC calls.
#[derive(Debug)]
pub(super) struct Grpc {
    client: tonic::client::Grpc<Channel>,
    /// The method of the signal's service.
    method: PathAndQuery,
    metadata: MetadataMap,
}

impl Grpc {
    pub(super) fn new(
        channel: Channel,
        method: PathAndQuery,
        metadata: MetadataMap,
        gzip: bool,
    ) -> Self {
        let mut client = tonic::client::Grpc::new(channel);
        if gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        Self {
            client,
            method,
            metadata,
        }
    }

    async fn send(&self, body: Bytes) -> Result<Bytes, Status> {
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let mut client = self.client.clone();
        let ready = client.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let answer = client
            .unary(request, self.method.clone(), BytesCodec)
            .await?;
        Ok(answer.into_inner())
    }
}

/// A codec for messages that are already encoded.
#[derive(Debug, Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(message.len());
        into.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
