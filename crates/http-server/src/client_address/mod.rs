//! Client addresses: the address of the socket, or the address that trusted proxies report.
//!
//! Only one header is read. A proxy that writes one of `X-Forwarded-For` and `Forwarded` passes the
//! other one on as the client sent it.

mod forwarded;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use settings::{RawValue, Setting};

/// Longest chain of proxies that is followed.
const MAX_HOPS: usize = 32;
/// Shortest time between two warnings. Any client can cause them with a forged header.
const WARN_EVERY: Duration = Duration::from_mins(1);
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The remote address of a connection, as an extension of requests on the admin listener.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// The header that trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressHeader {
    /// `X-Forwarded-For`: a list of addresses, each with or without a port.
    #[default]
    XForwardedFor,
    /// `Forwarded` of RFC 7239.
    Forwarded,
}

impl AddressHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => header::FORWARDED,
        }
    }
}

impl Setting for AddressHeader {
    const KIND: &'static str = "x-forwarded-for or forwarded";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        match raw.text.trim().to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

/// Presence of the two headers in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressHeaders {
    x_forwarded_for: bool,
    forwarded: bool,
}

impl AddressHeaders {
    /// Records the name of a header if it is one of the two.
    pub fn note(&mut self, name: &HeaderName) {
        if *name == header::FORWARDED {
            self.forwarded = true;
        } else if *name == X_FORWARDED_FOR {
            self.x_forwarded_for = true;
        }
    }

    /// Whether the header that is read is present, and whether the other one is.
    fn of(self, header: AddressHeader) -> (bool, bool) {
        match header {
            AddressHeader::XForwardedFor => (self.x_forwarded_for, self.forwarded),
            AddressHeader::Forwarded => (self.forwarded, self.x_forwarded_for),
        }
    }
}

/// Resolves client addresses.
#[derive(Debug, Default)]
pub struct ClientAddress {
    trusted: Vec<IpNet>,
    header: AddressHeader,
    warned: Mutex<Option<Instant>>,
}

/// The result of a resolution.
#[derive(Debug, PartialEq, Eq)]
pub struct ResolvedAddress {
    /// Address of the client, or of the last known proxy when the client's address is unknown.
    pub address: IpAddr,
    /// Whether the resolved client itself lies in a trusted network.
    pub trusted: bool,
    /// Errors in the forwarding headers.
    pub flaws: HeaderFlaws,
}

/// Errors in forwarding headers. Each one is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderFlaws {
    /// The headers came from a peer that is not a trusted proxy.
    pub untrusted: bool,
    /// A trusted proxy sent the header that is not read.
    pub ignored: bool,
    /// A trusted proxy sent no readable address of the client.
    pub unreadable: bool,
}

impl ClientAddress {
    /// A resolver that reads `header` of peers in the `trusted` networks.
    #[must_use]
    pub fn new(trusted: Vec<IpNet>, header: AddressHeader) -> Self {
        Self {
            trusted,
            header,
            warned: Mutex::default(),
        }
    }

    /// Resolves the client address of a request. `present` says which forwarding headers it has.
    ///
    /// The forwarding chain is followed from right to left while each hop is trusted. The first
    /// untrusted hop is the client.
    pub fn resolve(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        present: AddressHeaders,
    ) -> ResolvedAddress {
        let peer = canonical(peer);
        let trusted = self.trusts(peer);
        if present != AddressHeaders::default() {
            return if trusted {
                self.walk(peer, headers, present)
            } else {
                self.distrust(peer)
            };
        }
        ResolvedAddress {
            address: peer,
            trusted,
            flaws: HeaderFlaws::default(),
        }
    }

    fn distrust(&self, peer: IpAddr) -> ResolvedAddress {
        if self.is_time_to_warn(Instant::now()) {
            tracing::warn!(
                %peer,
                "forwarding headers of an untrusted peer have no effect: if it is your proxy, \
                 add its network to http.trusted_proxies; until then all users behind the proxy \
                 share one bucket of the rate limit"
            );
        }
        ResolvedAddress {
            address: peer,
            trusted: false,
            flaws: HeaderFlaws {
                untrusted: true,
                ..HeaderFlaws::default()
            },
        }
    }

    /// Resolves the client behind a trusted peer.
    fn walk(&self, peer: IpAddr, headers: &HeaderMap, present: AddressHeaders) -> ResolvedAddress {
        let (is_there, ignored) = present.of(self.header);
        let (address, is_known) = if is_there {
            self.first_stranger(peer, headers)
        } else {
            (peer, false)
        };
        if !is_known {
            self.warn_unreadable(peer, is_there);
        }
        ResolvedAddress {
            address,
            // An unknown client is behind the last known hop, so the result is not trusted.
            trusted: is_known && self.trusts(address),
            flaws: HeaderFlaws {
                untrusted: false,
                ignored,
                unreadable: !is_known,
            },
        }
    }

    /// The rightmost untrusted hop, or the leftmost hop when all are trusted, and `true`. When a
    /// hop before that is unreadable or the chain is too long, the last hop that was read, and
    /// `false`.
    fn first_stranger(&self, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, bool) {
        let mut address = peer;
        let mut hops = hops(self.header, headers).into_iter().rev();
        for hop in hops.by_ref().take(MAX_HOPS) {
            // `unknown` or an obfuscated name ends the readable part of the chain.
            let Some(hop) = hop else {
                return (address, false);
            };
            address = canonical(hop);
            if !self.trusts(address) {
                return (address, true);
            }
        }
        (address, hops.next().is_none())
    }

    fn warn_unreadable(&self, peer: IpAddr, is_there: bool) {
        if self.is_time_to_warn(Instant::now()) {
            let header = self.header.name();
            let why = if is_there {
                "cannot be read"
            } else {
                "is missing, while the other forwarding header is there"
            };
            tracing::warn!(
                %peer,
                %header,
                why,
                "a trusted proxy does not tell the client's address: http.client_address_header \
                 must name the header that the proxy writes; until then its users share one \
                 bucket of the rate limit"
            );
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

/// Converts an IPv4-mapped address to the IPv4 address that it contains.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Hops from left to right. A hop that is not an address is `None`.
fn hops(header: AddressHeader, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for line in headers.get_all(header.name()) {
        match (line.to_str(), header) {
            (Ok(line), AddressHeader::XForwardedFor) => {
                let elements = line.split(',').map(str::trim);
                hops.extend(elements.filter(|hop| !hop.is_empty()).map(parse_hop));
            }
            (Ok(line), AddressHeader::Forwarded) => match forwarded::nodes(line) {
                Some(nodes) => hops.extend(nodes),
                None => hops.push(None),
            },
            (Err(_), _) => hops.push(None),
        }
    }
    hops
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests;
