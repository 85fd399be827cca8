//! The head of a request, as metrics and logs need it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use request::{BodyLimits, RequestContext, ids, propagation};
use settings::clock::system_time;

use crate::client_address::{AddressHeaders, PeerAddress};

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static(propagation::TRACEPARENT);

/// The headers that observation reads, found in one pass. Looking up each of them would hash as
/// many names, most of which are absent.
#[derive(Default)]
pub(crate) struct ObservedHeaders<'a> {
    request_id: Option<&'a HeaderValue>,
    pub(crate) host: Option<&'a HeaderValue>,
    pub(crate) user_agent: Option<&'a HeaderValue>,
    /// Whether the headers carry a caller's trace.
    pub(crate) traced: bool,
    /// The forwarding headers that are present.
    pub(crate) addresses: AddressHeaders,
}

impl<'a> ObservedHeaders<'a> {
    pub(crate) fn read(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            // Standard names of `http` are compared as numbers. Comparing a text costs more. The
            // first header counts when there are several.
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

    /// The client's id when it is acceptable, else a new one.
    pub(crate) fn request_id(&self, now: SystemTime, random: &[u8; 10]) -> Box<str> {
        let own = self.request_id.and_then(|value| value.to_str().ok());
        ids::request_id(own, now, random)
    }
}

/// The lines of a header, as the propagators read them.
pub(crate) fn lines<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter();
    lines.filter_map(|line| line.to_str().ok()).collect()
}

/// The context of a request that is not observed. It gives the answer and the log the same ids. The
/// request is part of no metric, trace or request line.
pub fn unobserved<B>(request: &http::Request<B>, limits: BodyLimits) -> RequestContext {
    let peer = request.extensions().get::<PeerAddress>();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let mut context = RequestContext::new(address);
    let own = ObservedHeaders::read(request.headers()).request_id;
    if let Some(own) = own.and_then(|value| value.to_str().ok()) {
        context.request_id = ids::request_id(Some(own), system_time(), &[0; 10]);
    }
    context.method = method_label(request.method());
    context.limits = limits;
    context
}

/// The nine methods of RFC 9110 and RFC 5789, and the label of all others.
pub(crate) const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other",
];

/// The position of a method in [`METHODS`].
#[must_use]
pub(crate) fn method_index(method: &Method) -> usize {
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

/// The label of a method, one of [`METHODS`].
#[must_use]
pub(crate) fn method_label(method: &Method) -> &'static str {
    METHODS[method_index(method)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_stands_at_its_place() {
        for label in &METHODS[..9] {
            let method = Method::from_bytes(label.as_bytes()).unwrap();
            assert_eq!(method_label(&method), *label);
        }
        assert_eq!(method_label(&Method::from_bytes(b"get").unwrap()), "other");
    }
}
