//! Limits the share of a scarce resource that each client holds.
//!
//! A client is an IPv4 address or an IPv6 /64, the smallest network of one customer. A /48, usually
//! the largest, holds at most twice as much.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Limit of a /48, in shares of a client.
const SITE: u32 = 2;

/// The pieces that all clients hold.
#[derive(Debug)]
pub struct Shares {
    per_client: u32,
    /// Pieces by network. An entry with 0 pieces is removed, so that the entries are no more than
    /// the pieces.
    held: Mutex<HashMap<Network, u32, ahash::RandomState>>,
}

/// First address and length of the prefix.
type Network = (IpAddr, u8);

/// One piece that a client holds. Dropping it gives the piece back.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    address: IpAddr,
}

impl Shares {
    /// Allows every client to hold `per_client` pieces at once.
    #[must_use]
    pub fn new(per_client: u32) -> Arc<Self> {
        Arc::new(Self {
            per_client,
            held: Mutex::default(),
        })
    }

    /// Takes one piece for the client at `address`. Returns `None` if the client holds its share
    /// already.
    #[must_use]
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let address = address.to_canonical();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |(network, at_most): (Network, u32)| {
            held.get(&network).is_some_and(|held| *held >= at_most)
        };
        if self.networks(address).any(is_full) {
            return None;
        }
        for (network, _) in self.networks(address) {
            *held.entry(network).or_default() += 1;
        }
        Some(Share {
            shares: Arc::clone(self),
            address,
        })
    }

    /// The networks that a client belongs to, and the limit of each.
    fn networks(&self, address: IpAddr) -> impl Iterator<Item = (Network, u32)> + use<> {
        let per_client = self.per_client;
        let prefixes: &[(u8, u32)] = match address {
            IpAddr::V4(_) => &[(32, 1)],
            IpAddr::V6(_) => &[(64, 1), (48, SITE)],
        };
        prefixes.iter().map(move |(prefix, shares)| {
            let network = match address {
                IpAddr::V4(_) => address,
                IpAddr::V6(v6) => {
                    let host = 128 - u32::from(*prefix);
                    IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> host << host))
                }
            };
            ((network, *prefix), per_client.saturating_mul(*shares))
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let shares = &self.shares;
        let mut held = shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (network, _) in shares.networks(self.address) {
            if let Entry::Occupied(mut entry) = held.entry(network) {
                *entry.get_mut() = entry.get().saturating_sub(1);
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one piece for each of these clients.
    fn held(shares: &Arc<Shares>, addresses: &[&str]) -> Vec<Option<Share>> {
        let address = |text: &&str| shares.take(text.parse().unwrap());
        addresses.iter().map(address).collect()
    }

    fn granted(shares: &[Option<Share>]) -> Vec<bool> {
        shares.iter().map(Option::is_some).collect()
    }

    #[test]
    fn a_client_gets_its_share_and_others_theirs() {
        let shares = Shares::new(2);
        let first = held(&shares, &["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"]);
        assert_eq!(granted(&first), [true, true, false]);
        assert_eq!(granted(&held(&shares, &["192.0.2.2"])), [true]);
        drop(first);
        assert!(shares.held.lock().unwrap().is_empty(), "nothing stays");
        assert_eq!(granted(&held(&shares, &["192.0.2.1"])), [true]);
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_and_one_of_48_bits_holds_two_shares() {
        let shares = Shares::new(1);
        let site = held(
            &shares,
            &[
                "2001:db8:0:1::1",
                "2001:db8:0:1::2",
                "2001:db8:0:2::1",
                "2001:db8:0:3::1",
                "2001:db8:1::1",
            ],
        );
        assert_eq!(granted(&site), [true, false, true, false, true]);
        drop(site);
        assert!(shares.held.lock().unwrap().is_empty());
    }
}
