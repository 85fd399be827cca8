//! Sessions: the logins of a user, each with a family of refresh tokens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use settings::validation::is_plain_line;
use time::OffsetDateTime;
use uuid::Uuid;

/// Longest text of a device, in characters. Longer ones are cut.
const MAX_DEVICE_CHARS: usize = 200;

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// UUIDv7.
    pub id: Uuid,
    /// The client at the last use.
    pub origin: SessionOrigin,
    /// Time of the login.
    pub created_at: OffsetDateTime,
    /// Time of the login or of the last refresh.
    pub last_used_at: OffsetDateTime,
}

/// The client of a session, as far as it is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionOrigin {
    /// The text of `User-Agent`, which the client chose.
    pub device: Option<String>,
    /// The network of the client: an IPv4 /24 or an IPv6 /48 in CIDR notation.
    pub address_prefix: Option<String>,
}

impl SessionOrigin {
    /// The origin of a request. A `User-Agent` with control characters is left out.
    #[must_use]
    pub fn new(user_agent: Option<&str>, address: IpAddr) -> Self {
        let device = user_agent
            .map(str::trim)
            .filter(|text| !text.is_empty() && is_plain_line(text))
            .map(|text| text.chars().take(MAX_DEVICE_CHARS).collect());
        Self {
            device,
            address_prefix: Some(address_prefix(address)),
        }
    }
}

/// The network of an address, so that the whole address of a client is not kept.
fn address_prefix(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let network = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8));
            format!("{network}/24")
        }
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80));
            format!("{network}/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_its_network() {
        for (address, prefix) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3::9", "2001:db8:1::/48"),
        ] {
            let origin = SessionOrigin::new(None, address.parse().unwrap());
            assert_eq!(origin.address_prefix.as_deref(), Some(prefix));
        }
    }

    #[test]
    fn a_device_is_one_plain_line_of_limited_length() {
        fn device(text: &str) -> Option<String> {
            SessionOrigin::new(Some(text), IpAddr::from([127, 0, 0, 1])).device
        }
        assert_eq!(device(" curl/8.5 "), Some("curl/8.5".to_owned()));
        assert_eq!(device(&"ä".repeat(300)), Some("ä".repeat(200)));
        for bad in ["", "  ", "a\nb", "a\u{202e}b"] {
            assert_eq!(device(bad), None, "{bad:?}");
        }
    }
}
