//! Configuration of the public listener.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use settings::check::{at_least_one, positive};
use settings::{ByteSize, Profile, Reader, SecretSource, settings};

use crate::client_address::AddressHeader;
use crate::connection::tls::Tls;

settings! {
    /// The public listener and its limits.
    pub struct Config("http", validate) {
        /// Listen address. Port 0 selects a free port, which is logged.
        pub addr("addr"): SocketAddr = Same("0.0.0.0:3000");
        /// Deadline of a whole request. A slower request is answered with 503 `DEADLINE_EXCEEDED`.
        /// Streams have no deadline.
        pub request_timeout("request_timeout"): Duration = Same("15s"), check positive;
        /// Time for a TLS handshake, for the first byte of a new connection, and for the rest of a
        /// request header. Slower connections are closed.
        pub header_timeout("header_timeout"): Duration = Same("10s"), check positive;
        /// Time until a keep-alive connection without a request is closed. A connection or an
        /// HTTP/2 stream whose client does not read its answer ends after the same time.
        pub idle_timeout("idle_timeout"): Duration = Same("75s"), check positive;
        /// Bytes a second that a client must read while more of its answers waits to be read. A
        /// client that reads less for `http.idle_timeout` counts as one that does not read. `0`:
        /// any byte is enough.
        pub min_read_rate("min_read_rate"): ByteSize = Same("256B");
        /// HTTP/2 frames a second that one connection may send and that carry no request: PING,
        /// SETTINGS, PRIORITY, `WINDOW_UPDATE`, `RST_STREAM`, empty DATA and unknown types. A
        /// connection that sends more is ended and counted. Each request allows 8 more frames, and
        /// each KiB of answers allows one more.
        pub max_control_frames("max_control_frames"): u32 = Same("1000"), check at_least_one;
        /// Time for a whole request body to arrive. A slower body is answered with 408
        /// `BODY_TIMEOUT`.
        pub body_timeout("body_timeout"): Duration = Same("10s"), check positive;
        /// Largest request body, both as sent and without its content codings. A larger body is
        /// answered with 413 `BODY_TOO_LARGE`.
        pub max_body_bytes("max_body_bytes"): ByteSize = Same("1MiB");
        /// Maximum number of open connections on the public listener. Further connections are
        /// refused at once and counted. The value is lowered at start-up when the limit of file
        /// descriptors has no room for it.
        pub max_connections("max_connections"): u32 = Same("10000"), check at_least_one;
        /// Maximum number of open connections of one client, as a part of `http.max_connections`. A
        /// client is an IPv4 address or an IPv6 /64. A /48 may hold twice as many. Further
        /// connections are refused at once and counted. `http.trusted_proxies` are exempt.
        pub max_connections_per_client("max_connections_per_client"): u32 = Same("2500"), check at_least_one;
        /// Maximum number of requests in progress. Further requests are answered at once with 503
        /// `OVERLOADED` and counted.
        pub max_in_flight("max_in_flight"): u32 = Same("1024"), check at_least_one;
        /// Maximum number of permits that one client may hold in the upper half of
        /// `http.max_in_flight`. A client is an IPv4 address or an IPv6 /64. A /48 may hold twice
        /// as many. Further requests are answered with 503 `OVERLOADED` and counted.
        pub max_in_flight_per_client("max_in_flight_per_client"): u32 = Same("128"), check at_least_one;
        /// Maximum number of request bodies that arrive at the same time. A request whose body
        /// arrives takes no permit of `http.max_in_flight`. Further requests are answered with 503
        /// `OVERLOADED` and counted.
        pub max_bodies("max_bodies"): u32 = Same("1024"), check at_least_one;
        /// Maximum number of arriving bodies of one client, as a part of `http.max_bodies`. Further
        /// requests are answered with 503 `OVERLOADED` and counted.
        pub max_bodies_per_client("max_bodies_per_client"): u32 = Same("128"), check at_least_one;
        /// Certificate chain (PEM) of the public listener. A chain from a file is read again within
        /// 10 s of a change. Without a chain the listener speaks plain HTTP.
        pub tls_cert("tls.cert"): Option<SecretSource> = Unset;
        /// Private key (PEM) of the certificate.
        pub tls_key("tls.key"): Option<SecretSource> = Unset;
        /// Networks (CIDR) of the proxies whose `http.client_address_header` is trusted.
        pub trusted_proxies("trusted_proxies"): Vec<IpNet> = Same("");
        /// The one header that trusted proxies write and clients cannot: `x-forwarded-for` or
        /// `forwarded` (RFC 7239). The other header is ignored and counted, because the client may
        /// have sent it.
        pub client_address_header("client_address_header"): AddressHeader = Same("x-forwarded-for");
        /// Origins that browsers may call from, as `scheme://host[:port]` in the form that browsers
        /// send. `*` alone allows every origin and is rejected in production.
        pub cors_allowed_origins("cors.allowed_origins"): Vec<String> = Same("");
        /// Whether answers carry `Server-Timing`, for the developer tools of browsers. The default
        /// is off, because the header reveals to every client how long the work took.
        pub server_timing("server_timing"): bool = Same("false");
    }
}

impl Config {
    /// Checks the rules of this section that involve several keys or depend on the profile.
    fn validate(&self, reader: &mut Reader) {
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => reader.refuse("http.tls.key", "is missing beside http.tls.cert"),
            (None, Some(_)) => reader.refuse("http.tls.cert", "is missing beside http.tls.key"),
            _ => {
                if let Err(error) = Tls::new(self.tls_cert.as_ref(), self.tls_key.as_ref()) {
                    reader.refuse("http.tls.cert", &error.to_string());
                }
            }
        }
        if let Some(problem) = self.origin_problem(reader.profile()) {
            reader.refuse("http.cors.allowed_origins", &problem);
        }
    }

    fn origin_problem(&self, profile: Profile) -> Option<String> {
        let origins = &self.cors_allowed_origins;
        if origins.iter().any(|origin| origin == "*") {
            if profile == Profile::Production {
                let why = "is open to every origin, which production refuses; list the origins";
                return Some(why.to_owned());
            }
            let why = "holds `*` beside others; `*` stands alone";
            return (origins.len() > 1).then(|| why.to_owned());
        }
        origins.iter().find_map(|origin| not_an_origin(origin))
    }
}

/// The reason why no browser sends `text` as `Origin`. Browsers send scheme, host and a port that
/// is not the default one, in lower case and ASCII (RFC 6454, section 6.2).
fn not_an_origin(text: &str) -> Option<String> {
    if text == "null" {
        // Sandboxed frames, local files and redirects of any site send `null`.
        return Some("holds `null`, which pages of anybody can send".to_owned());
    }
    let parsed = url::Url::parse(text).ok();
    let origin = parsed
        // The parser accepts an asterisk as a part of a name.
        .filter(|url| matches!(url.scheme(), "http" | "https") && !text.contains('*'))
        .map(|url| url.origin().ascii_serialization());
    match origin {
        Some(origin) if origin == text => None,
        Some(origin) => Some(format!(
            "holds `{text}`, which no browser sends; the origin is `{origin}`"
        )),
        None => Some(format!(
            "holds `{text}`, which is not an origin such as https://example.org"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_send() {
        for origin in [
            "https://example.org",
            "http://localhost:5173",
            "https://xn--bcher-kva.example:8443",
            "http://[::1]:3000",
        ] {
            assert_eq!(not_an_origin(origin), None);
        }
        for (text, origin) in [
            ("https://Example.org", "`https://example.org`"),
            ("https://example.org/", "`https://example.org`"),
            ("https://example.org/app", "`https://example.org`"),
            ("https://example.org:443", "`https://example.org`"),
            ("https://me:secret@example.org", "`https://example.org`"),
            ("https://example.org?x", "`https://example.org`"),
            (
                "https://b\u{fc}cher.example",
                "`https://xn--bcher-kva.example`",
            ),
        ] {
            let why = not_an_origin(text).unwrap();
            assert!(why.ends_with(origin), "{text}: {why}");
        }
        for text in [
            "null",
            "example.org",
            "*.example.org",
            "file:///x",
            "https://",
            "ws://x",
        ] {
            assert!(not_an_origin(text).is_some(), "{text}");
        }
        // An asterisk is not part of a host that a browser sends.
        assert!(not_an_origin("https://*.example.org").is_some());
    }
}
