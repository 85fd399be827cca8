//! The public listener's section of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use settings::check::{at_least_one, positive};
use settings::settings;
use settings::{ByteSize, Profile, Reader, SecretSource};

use crate::client_address::AddressHeader;

use crate::connection::tls::Tls;

settings! {
    /// The public listener and what it lets in.
    pub struct Config("http") {
        /// Listen address; port 0 picks a free port and logs it.
        pub addr("addr"): SocketAddr = Same("0.0.0.0:3000");
        /// Whole-request deadline (not for streams); beyond it 503 `DEADLINE_EXCEEDED`.
        pub request_timeout("request_timeout"): Duration = Same("15s"), check positive;
        /// Slow headers, and new connections before their first byte, end after this.
        pub header_timeout("header_timeout"): Duration = Same("10s"), check positive;
        /// Keep-alive connections without a request end after this, and connections and HTTP/2 streams whose client does not read its answer.
        pub idle_timeout("idle_timeout"): Duration = Same("75s"), check positive;
        /// Bytes a second of its answers that a client has to read while more of them waits for it; one that reads less for `http.idle_timeout` counts as one that does not read. `0`: any byte is enough.
        pub min_read_rate("min_read_rate"): ByteSize = Same("256B");
        /// HTTP/2 frames a second that one connection may send and that ask for nothing (PING, SETTINGS, PRIORITY, `WINDOW_UPDATE`, `RST_STREAM`, empty DATA, unknown types); beyond it the connection is ended and counted. Each request allows 8 more, and each KiB of answers one.
        pub max_control_frames("max_control_frames"): u32 = Same("1000"), check at_least_one;
        /// A whole request body must have arrived within this; beyond it 408 `BODY_TIMEOUT`.
        pub body_timeout("body_timeout"): Duration = Same("10s"), check positive;
        /// Largest request body, as sent and without its content codings; beyond it 413 `BODY_TOO_LARGE`.
        pub max_body_bytes("max_body_bytes"): ByteSize = Same("1MiB");
        /// Open connections on the public listener; beyond it they are refused at once and counted. Lowered at the start when the limit of file descriptors has no room for them.
        pub max_connections("max_connections"): u32 = Same("10000"), check at_least_one;
        /// Of `http.max_connections`, what one client may hold (an IPv4 address or an IPv6 /64; a /48 twice as many); beyond it they are refused at once and counted. `http.trusted_proxies` are exempt.
        pub max_connections_per_client("max_connections_per_client"): u32 = Same("2500"), check at_least_one;
        /// Requests in work; beyond it 503 `OVERLOADED` at once, counted.
        pub max_in_flight("max_in_flight"): u32 = Same("1024"), check at_least_one;
        /// Of the upper half of `http.max_in_flight`, places that one client may hold (an IPv4 address or an IPv6 /64; a /48 twice as many); beyond it 503 `OVERLOADED`, counted.
        pub max_in_flight_per_client("max_in_flight_per_client"): u32 = Same("128"), check at_least_one;
        /// Request bodies that are awaited at once; such a request takes no place of `http.max_in_flight`. Beyond it 503 `OVERLOADED`, counted.
        pub max_bodies("max_bodies"): u32 = Same("1024"), check at_least_one;
        /// Of `http.max_bodies`, what one client may hold; beyond it 503 `OVERLOADED`, counted.
        pub max_bodies_per_client("max_bodies_per_client"): u32 = Same("128"), check at_least_one;
        /// Certificate chain (PEM) of the public listener; with a file it is read again within 10 s of a change. Unset: plain HTTP.
        pub tls_cert("tls.cert"): Option<SecretSource> = Unset;
        /// Private key (PEM) of the certificate.
        pub tls_key("tls.key"): Option<SecretSource> = Unset;
        /// Networks (CIDR) whose `http.client_address_header` is believed.
        pub trusted_proxies("trusted_proxies"): Vec<IpNet> = Same("");
        /// The one header that trusted proxies write and clients cannot: `x-forwarded-for` or `forwarded` (RFC 7239). The other one is ignored, since it may be the client's own, and counted.
        pub client_address_header("client_address_header"): AddressHeader = Same("x-forwarded-for");
        /// Origins that browsers may call from, `scheme://host[:port]` as they send it; `*` alone for any (refused in production).
        pub cors_allowed_origins("cors.allowed_origins"): Vec<String> = Same("");
        /// Whether answers carry `Server-Timing`, for the developer tools of browsers. Off, since it tells every client how long the work took.
        pub server_timing("server_timing"): bool = Same("false");
    }
}

impl Config {
    /// Rules of this section that span keys or depend on the profile.
    pub fn validate(&self, reader: &mut Reader) {
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

/// Why browsers never send this as `Origin`. They send scheme, host and a port that is
/// not the default one, in lower case and ASCII (RFC 6454, section 6.2).
fn not_an_origin(text: &str) -> Option<String> {
    if text == "null" {
        // Sandboxed frames, local files and redirects of anybody send it.
        return Some("holds `null`, which pages of anybody can send".to_owned());
    }
    let parsed = url::Url::parse(text).ok();
    let origin = parsed
        // The parser takes an asterisk for a part of a name.
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
        // An asterisk is no part of a host that a browser sends.
        assert!(not_an_origin("https://*.example.org").is_some());
    }
}
