//! One try to hand a request to a collector, by HTTP or by gRPC.

use std::io::Write as _;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use opentelemetry_http::{HttpClient as _, ResponseBodyTooLarge};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::acknowledgement;
use super::client::{Client, root, why};
use super::queue::Taken;
use super::retry::Retry;

/// The largest request that a collector must take, before compression.
const MAX_REQUEST: usize = 64 << 20;

/// Why a collector has not taken a request. Says nothing of what it wrote: that may
/// repeat credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("a request of {0} bytes is too large")]
    TooLarge(usize),
    #[error("a batch cannot be encoded: {0}")]
    Encoding(String),
    #[error("a request cannot be compressed: {0}")]
    Compression(#[from] std::io::Error),
    #[error("no answer{}", because(why.as_ref()))]
    NoAnswer { why: Option<String>, retry: Retry },
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Taken or not: sent again, it might be there twice.
    #[error("the answer is no OTLP, so it acknowledges nothing: is the endpoint a collector's?")]
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

fn because(why: Option<&String>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

impl Failure {
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::TooLarge(_)
            | Self::Encoding(_)
            | Self::Compression(_)
            | Self::TimedOut(_)
            | Self::Unacknowledged => Retry::Never,
            Self::NoAnswer { retry, .. } | Self::Http { retry, .. } | Self::Grpc { retry, .. } => {
                *retry
            }
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_retry_info();
        let delay = info.and_then(|info| info.retry_delay);
        Self::Grpc {
            code: status.code(),
            // Of the connection's errors; what a collector says has no source.
            why: root(&status),
            retry: Retry::of_grpc(status.code(), delay),
        }
    }
}

/// The way to a collector.
#[derive(Debug)]
pub(super) enum Transport {
    Http(Http),
    Grpc(Box<Grpc>),
}

impl Transport {
    /// What is sent of a request, however often.
    pub(super) fn body(&self, request: Bytes) -> Result<Bytes, Failure> {
        if request.len() > MAX_REQUEST {
            return Err(Failure::TooLarge(request.len()));
        }
        match self {
            Self::Http(http) if http.gzip => Ok(gzip(&request)?.into()),
            // By gRPC, messages are compressed one by one.
            Self::Http(_) | Self::Grpc(_) => Ok(request),
        }
    }

    /// What the collector has acknowledged.
    pub(super) async fn send(&self, body: Bytes) -> Result<Taken, Failure> {
        let taken = match self {
            Self::Http(http) => {
                let answer = http.send(body).await?;
                acknowledgement::of_http(answer.headers(), answer.body())
            }
            Self::Grpc(grpc) => acknowledgement::of_grpc(&grpc.send(body).await?),
        };
        taken.ok_or(Failure::Unacknowledged)
    }
}

fn gzip(request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(request)?;
    encoder.finish()
}

/// `POST` of `application/x-protobuf`.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    endpoint: Uri,
    headers: HeaderMap,
    gzip: bool,
}

impl Http {
    /// The operator's `headers` stand above those of the exporter, a later one above an
    /// earlier of the same name.
    pub(super) fn new(client: Client, endpoint: Uri, headers: &HeaderMap, gzip: bool) -> Self {
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

    async fn send(&self, body: Bytes) -> Result<Response<Bytes>, Failure> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        match self.client.send_bytes(request).await {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => {
                #[allow(clippy::disallowed_methods)]
                let now = std::time::SystemTime::now();
                let status = answer.status();
                let retry = Retry::of_http(status, answer.headers(), now);
                Err(Failure::Http { status, retry })
            }
            // It may have been taken: sent again, it would be there twice.
            Err(error) if error.is::<ResponseBodyTooLarge>() => Err(Failure::NoAnswer {
                why: Some(error.to_string()),
                retry: Retry::Never,
            }),
            Err(_) => Err(Failure::NoAnswer {
                why: why(),
                retry: Retry::Later,
            }),
        }
    }
}

/// Unary calls.
#[derive(Debug)]
pub(super) struct Grpc {
    client: tonic::client::Grpc<Channel>,
    /// The one method of the signal's service.
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
        let answer = client.unary(request, self.method.clone(), Encoded).await?;
        Ok(answer.into_inner())
    }
}

/// Messages that are bytes already, both ways.
#[derive(Debug, Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
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

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(message.len());
        into.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
