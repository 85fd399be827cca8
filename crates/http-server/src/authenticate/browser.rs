//! The access token of a browser, in a cookie. A browser sends cookies with every request to a site,
//! also with those that pages of other sites make it send (cross-site request forgery). A request
//! that can change something is therefore accepted only from pages of the same origin.

use axum::extract::FromRequestParts;
use cookie::Cookie;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri, header};
use request::Problem;
use request::problem::codes;

use crate::extract::single_header;
use crate::problem::ProblemResponse;

/// Cookie with an access token. With the prefix `__Host-` a browser accepts it only with `Secure`,
/// for the whole host, and from the host itself (RFC 6265bis, section 4.1.3.2).
pub const ACCESS_TOKEN_COOKIE: &str = "__Host-access_token";

/// The value of a cookie. HTTP/2 clients may split the header into several (RFC 9113, section
/// 8.2.3).
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .flatten()
        .find(|cookie| cookie.name() == name)
        .and_then(|cookie| cookie.value_raw())
}

/// Rejects requests from pages of other origins with 403 `CROSS_SITE_REQUEST`.
#[derive(Debug)]
pub struct SameOrigin;

impl<S: Sync> FromRequestParts<S> for SameOrigin {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        check_origin(&parts.uri, &parts.headers)?;
        Ok(Self)
    }
}

/// Checks the origin of a request with a cookie, if the request can change something or opens a
/// connection that can.
pub(super) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let only_reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if only_reads && !headers.contains_key(header::UPGRADE) {
        return Ok(());
    }
    check_origin(uri, headers)
}

/// `Sec-Fetch-Site` is set by the browser and cannot be set by a page (Fetch Metadata Request
/// Headers, section 2.3). Browsers without it send `Origin` with requests that can change something
/// (RFC 6454, section 7).
fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let is_same = match single_header(headers, "sec-fetch-site")? {
        Some(site) => site == "same-origin",
        None => single_header(headers, "origin")?
            .and_then(authority_of_origin)
            .zip(requested_authority(uri, headers)?)
            .is_some_and(|(origin, requested)| origin == requested),
    };
    is_same.then_some(()).ok_or_else(|| {
        Problem::new(
            codes::CROSS_SITE_REQUEST,
            "With cookies only pages of the same origin may send this request, with Sec-Fetch-Site or Origin.",
        )
    })
}

fn authority_of_origin(origin: &str) -> Option<Authority> {
    let (_, authority) = origin.split_once("://")?;
    authority.parse().ok()
}

fn requested_authority(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Problem> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let host = single_header(headers, "host")?;
    Ok(host.and_then(|host| host.parse().ok()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        lines.collect()
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_in_any_of_the_headers() {
        let name = ACCESS_TOKEN_COOKIE;
        for (lines, value) in [
            (
                &[("cookie", "__Host-access_token=a.b.c")][..],
                Some("a.b.c"),
            ),
            (&[("cookie", "x=1; __Host-access_token=a; y=2")], Some("a")),
            (
                &[("cookie", "x=1"), ("cookie", "__Host-access_token=a")],
                Some("a"),
            ),
            (&[("cookie", "access_token=a; __host-access_token=a")], None),
            (
                &[("cookie", "x__Host-access_token=a; y=__Host-access_token=a")],
                None,
            ),
            (&[("cookie", "=; ;;__Host-access_token")], None),
            (&[], None),
        ] {
            assert_eq!(cookie(&headers(lines), name), value, "{lines:?}");
        }
    }

    fn decide(method: &Method, uri: &'static str, lines: &[(&'static str, &'static str)]) -> bool {
        check(method, &Uri::from_static(uri), &headers(lines)).is_ok()
    }

    #[test]
    fn only_pages_of_the_same_origin_may_change_something() {
        let host = ("host", "api.example.com");
        for (lines, accepted) in [
            (&[host, ("sec-fetch-site", "same-origin")][..], true),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "cross-site")], false),
            (&[host, ("sec-fetch-site", "none")], false),
            // The browser's own statement counts, not the other header.
            (
                &[
                    host,
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://api.example.com"),
                ],
                false,
            ),
            (&[host, ("origin", "https://api.example.com")], true),
            (&[host, ("origin", "https://API.example.com")], true),
            (&[host, ("origin", "https://api.example.com:8443")], false),
            (
                &[host, ("origin", "https://api.example.com.evil.test")],
                false,
            ),
            (&[host, ("origin", "https://example.com")], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("origin", "")], false),
            (&[("origin", "https://api.example.com")], false),
            (&[host], false),
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(decide(&method, "/x", lines), accepted, "{method} {lines:?}");
            }
        }
        // HTTP/2 names the host in `:authority`.
        let origin = [("origin", "https://api.example.com")];
        assert!(decide(&Method::POST, "https://api.example.com/x", &origin));
        assert!(!decide(
            &Method::POST,
            "https://other.example.com/x",
            &origin
        ));
    }

    #[test]
    fn reading_is_accepted_from_everywhere_but_no_upgrade() {
        let elsewhere = ("sec-fetch-site", "cross-site");
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(decide(&method, "/x", &[elsewhere]));
        }
        assert!(!decide(
            &Method::GET,
            "/x",
            &[elsewhere, ("upgrade", "websocket")]
        ));
        assert!(!decide(&Method::CONNECT, "/x", &[elsewhere]));
    }
}
