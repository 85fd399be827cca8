//! The server and the URL of a call, as spans show them.

use http::Uri;

/// Attributes of a span by the OpenTelemetry conventions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `server.address`.
    pub(crate) address: String,
    /// `server.port`.
    pub(crate) port: u16,
    /// `url.full` without user, password, query and fragment, which may contain secrets.
    pub(crate) url: String,
}

impl Target {
    pub(crate) fn of(uri: &Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or("http");
        let host = uri.host().unwrap_or_default();
        let default_port = if scheme == "https" { 443 } else { 80 };
        let explicit = uri.port_u16().map(|port| format!(":{port}"));
        Self {
            address: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            url: format!(
                "{scheme}://{host}{}{}",
                explicit.unwrap_or_default(),
                uri.path()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> (String, u16, String) {
        let target = Target::of(&uri.parse().unwrap());
        (target.address, target.port, target.url)
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let full = "https://user:password@example.com/a/b?token=secret";
        let expected = ("example.com", 443, "https://example.com/a/b");
        let (address, port, url) = target(full);
        assert_eq!((&*address, port, &*url), expected);
    }

    #[test]
    fn a_port_is_the_explicit_or_the_default_one() {
        let (address, port, url) = target("http://[::1]:8080/");
        assert_eq!(
            (&*address, port, &*url),
            ("::1", 8080, "http://[::1]:8080/")
        );
        assert_eq!(target("http://example.com/").1, 80);
    }
}
