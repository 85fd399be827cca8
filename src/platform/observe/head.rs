//! What the head of a request says for metrics and logs.

use http::{HeaderMap, HeaderName, Method};

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// The client's id when it is short and visible ASCII, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> Box<str> {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic())
        })
        .map_or_else(
            || {
                let mut text = uuid::Uuid::encode_buffer();
                let id = uuid::Uuid::now_v7().hyphenated();
                Box::from(&*id.encode_lower(&mut text))
            },
            Box::from,
        )
}

/// One of the nine methods of RFC 9110 and RFC 5789, or `other`.
#[must_use]
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
