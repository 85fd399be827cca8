//! Headers for browsers and caches, set in one pass over the headers of an answer.

use http::{HeaderMap, HeaderValue, header};

/// Two years. The preload lists require at least one. Subdomains are left to their owner.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Policy of the documentation pages. They load everything from this origin, except images from
/// `data:` URLs, and may not be framed. Inline code is limited to the styles that Swagger UI sets
/// itself.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Adds the headers that the handler has not set. `secure` says whether clients use TLS.
pub(crate) fn secure(headers: &mut HeaderMap, secure: bool) {
    let mut set = PresentHeaders::default();
    for (name, value) in &*headers {
        if *name == header::CONTENT_TYPE {
            set.media_type = MediaType::of(value.as_bytes());
        } else if *name == header::ETAG {
            set.tagged = true;
        } else if *name == header::CACHE_CONTROL {
            set.cached = true;
        } else if *name == header::X_CONTENT_TYPE_OPTIONS {
            set.sniffed = true;
        }
    }
    if !set.sniffed {
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    }
    if secure {
        // HSTS must not be sent over plain HTTP (RFC 6797, section 7.2).
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    match set.media_type {
        MediaType::Json if !set.cached => {
            let private = if set.tagged {
                // The client may store it, and revalidates it by its tag.
                "private, no-cache"
            } else {
                "no-store"
            };
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(private));
        }
        MediaType::Page => for_page(headers),
        _ => {}
    }
}

fn for_page(headers: &mut HeaderMap) {
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(PAGE_POLICY);
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
}

/// The headers that the handler has set and that matter here.
#[derive(Default)]
struct PresentHeaders {
    media_type: MediaType,
    tagged: bool,
    cached: bool,
    sniffed: bool,
}

#[derive(Default)]
enum MediaType {
    Json,
    Page,
    #[default]
    Other,
}

impl MediaType {
    fn of(value: &[u8]) -> Self {
        if is_json(value) {
            Self::Json
        } else if value.starts_with(b"text/html") {
            Self::Page
        } else {
            Self::Other
        }
    }
}

fn is_json(media_type: &[u8]) -> bool {
    media_type.starts_with(b"application/json")
        || media_type.starts_with(b"application/problem+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(given: &[(header::HeaderName, &'static str)], tls: bool) -> HeaderMap {
        let mut headers: HeaderMap = given
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        secure(&mut headers, tls);
        headers
    }

    #[test]
    fn json_is_kept_by_nobody_unless_the_handler_says_so() {
        let json = (header::CONTENT_TYPE, "application/json");
        assert_eq!(
            after(std::slice::from_ref(&json), false)["cache-control"],
            "no-store"
        );
        let tagged = [json.clone(), (header::ETAG, "\"1\"")];
        assert_eq!(after(&tagged, false)["cache-control"], "private, no-cache");
        let set = [json, (header::CACHE_CONTROL, "max-age=60")];
        assert_eq!(after(&set, false)["cache-control"], "max-age=60");
    }

    #[test]
    fn transport_security_is_promised_over_tls_only() {
        assert!(after(&[], true).contains_key("strict-transport-security"));
        assert!(!after(&[], false).contains_key("strict-transport-security"));
    }

    #[test]
    fn pages_have_a_policy_and_data_has_none() {
        assert!(
            after(&[(header::CONTENT_TYPE, "text/html")], false)
                .contains_key("content-security-policy")
        );
        assert!(
            !after(&[(header::CONTENT_TYPE, "text/css")], false)
                .contains_key("content-security-policy")
        );
    }
}
