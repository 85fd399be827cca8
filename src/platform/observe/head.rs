//! What the head of a request says for metrics and logs.

use std::cell::RefCell;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};

use super::propagation;
use crate::platform::http::AddressHeaders;

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static(propagation::TRACEPARENT);
/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// The headers that observation reads, found in one pass: to ask for them one by one
/// hashes as many names, most of which no request has.
#[derive(Default)]
pub(super) struct Head<'a> {
    request_id: Option<&'a HeaderValue>,
    pub(super) host: Option<&'a HeaderValue>,
    pub(super) user_agent: Option<&'a HeaderValue>,
    /// Whether a caller's trace is told.
    pub(super) traced: bool,
    /// Which headers tell of proxies.
    pub(super) addresses: AddressHeaders,
}

impl<'a> Head<'a> {
    pub(super) fn read(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            // Names that `http` knows are numbers; to look at one as a text costs more. The
            // first one counts where there are several.
            if *name == header::HOST {
                head.host.get_or_insert(value);
            } else if *name == header::USER_AGENT {
                head.user_agent.get_or_insert(value);
            } else if *name == REQUEST_ID {
                head.request_id.get_or_insert(value);
            } else if *name == TRACEPARENT {
                head.traced = true;
            } else {
                head.addresses.note(name);
            }
        }
        head
    }

    /// The client's id when it is short and visible ASCII, else a new one: a UUIDv7
    /// (RFC 9562) of this moment.
    pub(super) fn request_id(&self, now: SystemTime, random: &[u8; 10]) -> Box<str> {
        let own = self.request_id.and_then(|value| value.to_str().ok());
        let acceptable = own.filter(|id| {
            !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic())
        });
        if let Some(id) = acceptable {
            return Box::from(id);
        }
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid();
        let mut text = uuid::Uuid::encode_buffer();
        Box::from(&*id.hyphenated().encode_lower(&mut text))
    }
}

/// Fresh ids: of a trace, of a span, and the random part of a request's. One draw.
/// They are to be different, not secret: the SDK's own generator draws them so.
#[inline(never)]
pub(super) fn random_ids() -> ([u8; 16], [u8; 8], [u8; 10]) {
    thread_local! {
        static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
    }
    let mut bytes = [0; 34];
    RANDOM.with_borrow_mut(|random| random.fill_bytes(&mut bytes));
    let (mut trace, mut span, mut request) = ([0; 16], [0; 8], [0; 10]);
    trace.copy_from_slice(&bytes[..16]);
    span.copy_from_slice(&bytes[16..24]);
    request.copy_from_slice(&bytes[24..]);
    (trace, span, request)
}

/// The nine methods of RFC 9110 and RFC 5789, and what stands for all others.
pub(super) const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other",
];

/// The position of a method in [`METHODS`].
#[must_use]
pub(super) fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => 9,
    }
}

/// One of [`METHODS`].
#[must_use]
pub(super) fn method_label(method: &Method) -> &'static str {
    METHODS[method_index(method)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_request_id_tells_its_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let id = Head::default().request_id(now, &[0xff; 10]);
        let id = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(
            id.get_timestamp().unwrap().to_unix(),
            (1_700_000_000, 123_000_000)
        );
    }

    #[test]
    fn every_method_stands_at_its_place() {
        for label in &METHODS[..9] {
            let method = Method::from_bytes(label.as_bytes()).unwrap();
            assert_eq!(method_label(&method), *label);
        }
        assert_eq!(method_label(&Method::from_bytes(b"get").unwrap()), "other");
    }
}
