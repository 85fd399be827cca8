//! Who the client is: the socket's address, or what trusted proxies say of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use ipnet::IpNet;

/// Longest chain of proxies that is walked.
const MAX_HOPS: usize = 32;
/// Strangers can send what they like: they are warned of no more often than this.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The remote end of a connection, in the requests of the admin listener.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// Resolves client addresses.
#[derive(Debug, Default)]
pub struct ClientAddress {
    trusted: Vec<IpNet>,
    warned: Mutex<Option<Instant>>,
}

/// The result of a resolution.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The client.
    pub address: IpAddr,
    /// The peer is not a trusted proxy but sent forwarding headers.
    pub untrusted_headers: bool,
    /// The resolved client itself lies in a trusted network.
    pub trusted: bool,
}

impl ClientAddress {
    /// A resolver that believes the forwarding headers of these networks.
    #[must_use]
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self {
            trusted,
            warned: Mutex::default(),
        }
    }

    /// Walks the forwarding chain from the right, as long as the hop that said it
    /// is trusted; the first one that is not is the client. `forwarded` tells whether
    /// there is a chain.
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap, forwarded: bool) -> Resolved {
        let peer = canonical(peer);
        let trusted = self.trusts(peer);
        match (forwarded, trusted) {
            (true, true) => return self.walk(peer, headers),
            (true, false) => self.warn(peer),
            (false, _) => {}
        }
        Resolved {
            address: peer,
            untrusted_headers: forwarded,
            trusted,
        }
    }

    #[cold]
    fn warn(&self, peer: IpAddr) {
        if self.is_time_to_warn(Instant::now()) {
            tracing::warn!(
                %peer,
                "forwarding headers of an untrusted peer have no effect: if it is your proxy, \
                 add its network to http.trusted_proxies; until then all users behind the proxy \
                 share one bucket of the rate limit"
            );
        }
    }

    /// Behind a trusted peer.
    #[inline(never)]
    fn walk(&self, peer: IpAddr, headers: &HeaderMap) -> Resolved {
        let mut address = peer;
        for hop in hops(headers).into_iter().rev().take(MAX_HOPS) {
            match hop {
                Some(hop) => address = canonical(hop),
                // `unknown` or an obfuscated name: the chain ends where it is readable.
                None => break,
            }
            if !self.trusts(address) {
                break;
            }
        }
        Resolved {
            address,
            untrusted_headers: false,
            trusted: self.trusts(address),
        }
    }

    fn is_time_to_warn(&self, now: Instant) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warned.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        if due {
            *warned = Some(now);
        }
        due
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// IPv4-mapped addresses are the IPv4 address that they carry.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Hops from left to right; `Forwarded` (RFC 7239) wins over `X-Forwarded-For`.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap_or("unknown").to_owned())
            .collect()
    };
    let forwarded = lines(header::FORWARDED.as_str());
    if forwarded.is_empty() {
        let lines = lines("x-forwarded-for");
        return lines
            .iter()
            .flat_map(|line| line.split(','))
            .map(parse_hop)
            .collect();
    }
    forwarded
        .iter()
        .flat_map(|line| line.split(','))
        .map(|element| {
            element
                .split(';')
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
                .and_then(|(_, node)| parse_hop(node))
        })
        .collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `"[2001:db8::1]:80"`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn resolve(trusted: &[&str], peer: &str, headers: &[(&str, &'static str)]) -> Resolved {
        let trusted = trusted
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let lines: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let peer = peer.parse().unwrap();
        ClientAddress::new(trusted).resolve(peer, &lines, !headers.is_empty())
    }

    #[test]
    fn a_strangers_header_changes_nothing_and_is_seen() {
        let resolved = resolve(
            &["10.0.0.0/8"],
            "198.51.100.7",
            &[("x-forwarded-for", "1.2.3.4")],
        );
        assert_eq!(resolved.address, "198.51.100.7".parse::<IpAddr>().unwrap());
        assert!(resolved.untrusted_headers);
    }

    #[test]
    fn the_chain_is_walked_from_the_right() {
        let chain = [("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.2")];
        let resolved = resolve(&["10.0.0.0/8"], "10.0.0.1", &chain);
        assert_eq!(resolved.address, "203.0.113.9".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn forwarded_is_read_with_ports_quotes_and_mapped_addresses() {
        let chain = [(
            "forwarded",
            r#"for="[2001:db8::1]:4711";proto=https, For=10.0.0.2"#,
        )];
        let resolved = resolve(&["10.0.0.0/8"], "::ffff:10.0.0.1", &chain);
        assert_eq!(resolved.address, "2001:db8::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn strangers_are_warned_of_once_a_minute() {
        let addresses = ClientAddress::default();
        let began = Instant::now();
        let warned = (0..600)
            .filter(|second| addresses.is_time_to_warn(began + Duration::from_secs(*second)));
        assert_eq!(warned.count(), 10);
    }

    #[test]
    fn an_unreadable_hop_ends_the_walk() {
        let chain = [("x-forwarded-for", "1.2.3.4, unknown")];
        let resolved = resolve(&["10.0.0.0/8"], "10.0.0.1", &chain);
        assert_eq!(resolved.address, "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
