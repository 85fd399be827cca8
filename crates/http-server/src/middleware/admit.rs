//! Rejects requests that can be judged by their headers alone, before any work is done.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use request::problem::codes;
use request::{Problem, RequestContext};
use telemetry::accept::{self, Accept, MediaRange, MediaType, Weighted};
use tower::{Layer, Service};

use crate::connection::framing;
use crate::problem::ProblemResponse;

/// Longest path and query in bytes. A longer one is answered with 414. RFC 9110, section 4.1,
/// requires at least 8,000 octets. hyper alone would accept as much as fits into its buffer.
const MAX_TARGET: usize = 8 * 1_024;

/// Installs [`Admit`].
#[derive(Clone, Copy)]
pub(crate) struct AdmitLayer {
    /// Largest body in bytes, before as well as after decompression.
    pub max_body_bytes: usize,
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit {
            inner,
            max_body_bytes: self.max_body_bytes,
        }
    }
}

/// Rejects requests by their head.
#[derive(Clone)]
pub(crate) struct Admit<S> {
    inner: S,
    max_body_bytes: usize,
}

impl<S> Service<Request<Body>> for Admit<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let head = CheckedHeaders::read(request.headers());
        if let Some(problem) = refusal(&request, &head, self.max_body_bytes) {
            return Either::Right(ready(Ok(refused(problem))));
        }
        if head.accept_encoding && refuses_identity(request.headers()) {
            // An answer that cannot be compressed would become 406 after its work was done. The
            // client gets an uncompressed answer instead, which RFC 9110, section 12.5.3, allows
            // (SHOULD).
            request.headers_mut().remove(header::ACCEPT_ENCODING);
        }
        Either::Left(self.inner.call(request))
    }
}

fn refused(problem: Problem) -> Response {
    ProblemResponse(problem).into_response()
}

/// The headers that are checked, found in one pass.
#[derive(Default)]
struct CheckedHeaders<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    length: Option<&'a HeaderValue>,
    accept: bool,
    accept_encoding: bool,
}

impl<'a> CheckedHeaders<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            if *name == header::HOST {
                head.host = Some(value);
                head.hosts += 1;
            } else if *name == header::CONTENT_LENGTH {
                head.length.get_or_insert(value);
            } else if *name == header::ACCEPT {
                head.accept = true;
            } else if *name == header::ACCEPT_ENCODING {
                head.accept_encoding = true;
            }
        }
        head
    }
}

fn refusal(
    request: &Request<Body>,
    head: &CheckedHeaders<'_>,
    max_body_bytes: usize,
) -> Option<Problem> {
    if let Some(problem) = framing::refusal(request.extensions()) {
        return Some(problem);
    }
    if request.method() == Method::CONNECT {
        let problem = Problem::new(codes::METHOD_NOT_ALLOWED, "This is not a proxy.");
        let others = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
        return Some(problem.metadata("allow", others));
    }
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Some(Problem::new(
            codes::URI_TOO_LONG,
            format!("Path and query may have {MAX_TARGET} bytes together."),
        ));
    }
    if !names_one_host(request, head) {
        return Some(Problem::new(
            codes::INVALID_HEADER,
            "The header Host must occur exactly once and contain a host name.",
        ));
    }
    if declared_length(head.length) > max_body_bytes as u64 {
        let problem = Problem::new(
            codes::BODY_TOO_LARGE,
            format!("The body may have {max_body_bytes} bytes at most."),
        );
        // The body that the client is already sending is not read.
        return Some(problem.metadata("connection", "close"));
    }
    if head.accept && excludes_json(request.headers()) && is_of_the_api() {
        return Some(Problem::new(
            codes::NOT_ACCEPTABLE,
            "Answers are application/json, which the header Accept excludes.",
        ));
    }
    None
}

/// Whether the router has a route for the request that answers in JSON.
fn is_of_the_api() -> bool {
    RequestContext::with(|context| context.route.starts_with("/api/")).unwrap_or_default()
}

/// Whether the request names one host: RFC 9112, section 3.2, for HTTP/1.1. In HTTP/2 `:authority`
/// replaces `Host`, which must not contradict it (RFC 9113, section 8.3.1).
fn names_one_host(request: &Request<Body>, head: &CheckedHeaders<'_>) -> bool {
    let authority = request.uri().authority();
    match (head.host, head.hosts) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), 1) => {
            let bytes = host.as_bytes();
            match authority {
                Some(authority) if request.version() == Version::HTTP_2 => {
                    bytes.eq_ignore_ascii_case(authority.as_str().as_bytes())
                }
                _ => is_host(bytes),
            }
        }
        (Some(_), _) => false,
    }
}

/// Whether the bytes are host and port without user information. Common hosts are not parsed.
fn is_host(bytes: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let end = bytes.iter().position(|byte| !plain(byte));
    let (name, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    if !name.is_empty() && (rest.is_empty() || is_small_port(rest)) {
        return true;
    }
    !bytes.contains(&b'@')
        && http::uri::Authority::try_from(bytes).is_ok_and(|host| {
            let port = host.as_str().rsplit_once(':').map_or("", |(_, port)| port);
            // `[::1]` has no port. An empty port is allowed (RFC 3986, section 3.2.3).
            !host.host().is_empty()
                && (port.is_empty() || port.ends_with(']') || port.parse::<u16>().is_ok())
        })
}

/// Whether the bytes are a port of at most four digits, which is always in range.
fn is_small_port(bytes: &[u8]) -> bool {
    matches!(bytes, [b':', port @ ..] if port.len() <= 4 && port.iter().all(u8::is_ascii_digit))
}

/// The length of the body. hyper has already rejected a value that is not a number or contradicts
/// another one.
fn declared_length(length: Option<&HeaderValue>) -> u64 {
    length
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

const JSON: MediaType = MediaType {
    kind: "application",
    subtype: "json",
    version: None,
};

/// Whether `Accept` excludes JSON and event streams: every range for them is absent or has quality
/// 0. A header that is malformed in part excludes nothing.
fn excludes_json(headers: &HeaderMap) -> bool {
    let accept = Accept::read(headers);
    // Ranges for problems and event streams. A client that accepts one of them is not rejected.
    let accepts_others = |range: &MediaRange<'_>| {
        let subtype = range.subtype.as_bytes();
        let is_structured = subtype
            .last_chunk()
            .is_some_and(|suffix: &[u8; 5]| suffix.eq_ignore_ascii_case(b"+json"));
        let is_stream = range.kind.eq_ignore_ascii_case("text")
            && subtype.eq_ignore_ascii_case(b"event-stream");
        range.quality > 0 && (is_structured || is_stream)
    };
    !accept.ranges().is_empty()
        && !accept.is_malformed()
        && !accept.ranges().iter().any(accepts_others)
        && accept.preference(&JSON).quality == 0
}

/// Whether `Accept-Encoding` forbids an uncompressed answer.
fn refuses_identity(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(accept::elements)
        .filter_map(Weighted::parse)
        .any(|Weighted { value, quality, .. }| {
            quality == 0 && (value == "*" || value.eq_ignore_ascii_case("identity"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn json_is_excluded_only_beyond_doubt() {
        let excludes = |accept: &str| excludes_json(&headers(header::ACCEPT, accept));
        for accept in [
            "text/html",
            "text/html, image/*;q=0.5",
            "application/json;q=0",
            "*/*;q=0.0",
            "application/json; q=0, */*",
            "application/*;q=0, */*;q=0.3",
        ] {
            assert!(excludes(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "",
            "text/html, */*;q=0.1",
            "application/*",
            "APPLICATION/JSON; charset=utf-8",
            "application/problem+json",
            "text/event-stream",
            "nonsense",
            "application/json;q=0.1, */*;q=0",
            "text/html, Application/Problem+JSON",
            "text/html;q=many",
            "text/html, nonsense",
        ] {
            assert!(!excludes(accept), "{accept}");
        }
        assert!(!excludes_json(&HeaderMap::new()));
    }

    #[test]
    fn hosts_are_hosts() {
        for host in [
            "x",
            "example.org",
            "example.org:80",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::1]",
            "h:",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "a b",
            "user@host",
            "a/b",
            "host:port",
            "host:99999",
            "\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn an_answer_as_it_is_can_be_forbidden_in_two_ways() {
        let refuses = |value: &str| refuses_identity(&headers(header::ACCEPT_ENCODING, value));
        assert!(refuses("gzip, identity;q=0"));
        assert!(refuses("*; q=0.000"));
        assert!(!refuses("gzip;q=0, br"));
        assert!(!refuses("identity;q=0.1"));
    }
}
