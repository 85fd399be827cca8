//! Who the client is: the socket's address, or what trusted proxies say of it.
//!
//! One header is read. A proxy that writes one of `X-Forwarded-For` and `Forwarded`
//! passes the other one on as the client sent it.

mod forwarded;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use settings::{Raw, Setting};

/// Longest chain of proxies that is walked.
const MAX_HOPS: usize = 32;
/// Strangers can send what they like: they are warned of no more often than this.
const WARN_EVERY: Duration = Duration::from_mins(1);
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The remote end of a connection, in the requests of the admin listener.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// The header that trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressHeader {
    /// `X-Forwarded-For`: addresses, each of them with or without a port.
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
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw.text.trim().to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

/// Which of the two headers a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressHeaders {
    x_forwarded_for: bool,
    forwarded: bool,
}

impl AddressHeaders {
    /// Remembers the name of a header if it is one of them.
    pub fn note(&mut self, name: &HeaderName) {
        if *name == header::FORWARDED {
            self.forwarded = true;
        } else if *name == X_FORWARDED_FOR {
            self.x_forwarded_for = true;
        }
    }

    /// Whether there is the one that is read, and whether there is the other.
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
pub struct Resolved {
    /// The client; where it cannot be told, the last proxy that is known.
    pub address: IpAddr,
    /// The resolved client itself lies in a trusted network.
    pub trusted: bool,
    /// What is wrong with the forwarding headers.
    pub flaws: Flaws,
}

/// What can be wrong with forwarding headers; each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaws {
    /// The peer that sent them is not a trusted proxy.
    pub untrusted: bool,
    /// A trusted proxy sent the header that is not read.
    pub ignored: bool,
    /// A trusted proxy does not tell the client's address.
    pub unreadable: bool,
}

impl ClientAddress {
    /// A resolver that believes this header of these networks.
    #[must_use]
    pub fn new(trusted: Vec<IpNet>, header: AddressHeader) -> Self {
        Self {
            trusted,
            header,
            warned: Mutex::default(),
        }
    }

    /// Walks the forwarding chain from the right, as long as the hop that said it
    /// is trusted; the first one that is not is the client. `present` tells which
    /// headers there are.
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap, present: AddressHeaders) -> Resolved {
        let peer = canonical(peer);
        let trusted = self.trusts(peer);
        if present != AddressHeaders::default() {
            return if trusted {
                self.walk(peer, headers, present)
            } else {
                self.distrust(peer)
            };
        }
        Resolved {
            address: peer,
            trusted,
            flaws: Flaws::default(),
        }
    }

    #[cold]
    fn distrust(&self, peer: IpAddr) -> Resolved {
        if self.is_time_to_warn(Instant::now()) {
            tracing::warn!(
                %peer,
                "forwarding headers of an untrusted peer have no effect: if it is your proxy, \
                 add its network to http.trusted_proxies; until then all users behind the proxy \
                 share one bucket of the rate limit"
            );
        }
        Resolved {
            address: peer,
            trusted: false,
            flaws: Flaws {
                untrusted: true,
                ..Flaws::default()
            },
        }
    }

    /// Behind a trusted peer.
    #[inline(never)]
    fn walk(&self, peer: IpAddr, headers: &HeaderMap, present: AddressHeaders) -> Resolved {
        let (is_there, ignored) = present.of(self.header);
        let (address, is_known) = if is_there {
            self.first_stranger(peer, headers)
        } else {
            (peer, false)
        };
        if !is_known {
            self.warn_unreadable(peer, is_there);
        }
        Resolved {
            address,
            // Somebody stands behind the last hop that is known.
            trusted: is_known && self.trusts(address),
            flaws: Flaws {
                untrusted: false,
                ignored,
                unreadable: !is_known,
            },
        }
    }

    /// The rightmost hop that is not trusted, or the leftmost one, and `true`; where
    /// a hop before that cannot be read, the last one that could, and `false`.
    fn first_stranger(&self, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, bool) {
        let mut address = peer;
        let mut hops = hops(self.header, headers).into_iter().rev();
        for hop in hops.by_ref().take(MAX_HOPS) {
            // `unknown` or an obfuscated name: the chain ends where it is readable.
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

    #[cold]
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

/// IPv4-mapped addresses are the IPv4 address that they carry.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Hops from left to right; `None` is one that is no address.
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

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests;
