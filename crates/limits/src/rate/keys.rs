//! Keys of buckets, and the bounded table of the keys in use.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use prometheus::IntGauge;
use quanta::Instant;
use request::RequestContext;
use uuid::Uuid;

/// The key of a bucket. Requests with the same key share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// One client: an IPv4 address, or an IPv6 network of 64 bits.
    Address(IpAddr),
    /// One authenticated user, or one API key of a user, over all addresses.
    Principal(Uuid),
    /// One account whose password is checked, as a digest. See [`LimitKey::account`].
    Account(u128),
    /// All new keys while the table is full.
    Overflow,
}

impl LimitKey {
    /// The key of a client address. An IPv6 customer has at least a /64 and can choose any address
    /// in it, so the key is the /64.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        })
    }

    /// The key of an account, by its identity. Each `purpose` has its own key.
    #[must_use]
    pub fn account(purpose: &str, identity: &[u8]) -> Self {
        // The purpose is UTF-8, which never contains the byte between the two.
        Self::Account(half_sha256(&[purpose.as_bytes(), &[0xff], identity]))
    }

    /// The name of the key outside of this process: the first half of a SHA-256. A dump of the
    /// server's keys reveals no address unless all addresses are tried.
    pub(crate) fn digest(&self) -> u128 {
        let (kind, bytes) = match self {
            Self::Address(IpAddr::V4(v4)) => (4, v4.to_ipv6_mapped().octets()),
            Self::Address(IpAddr::V6(v6)) => (6, v6.octets()),
            Self::Principal(id) => (1, *id.as_bytes()),
            Self::Account(digest) => (2, digest.to_be_bytes()),
            Self::Overflow => (0, [0; 16]),
        };
        half_sha256(&[&[kind], &bytes])
    }
}

/// The first half of a SHA-256 (FIPS 180-4).
fn half_sha256(parts: &[&[u8]]) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// The part of the request context that is the key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyedBy {
    Address,
    Principal,
    /// None. The caller of [`RateLimit::take`](crate::RateLimit::take) passes the key.
    Caller,
}

impl KeyedBy {
    /// The key of the current request.
    pub(crate) fn current(self) -> Option<LimitKey> {
        RequestContext::with(|context| match self {
            Self::Address => Some(LimitKey::address(context.client_address)),
            Self::Principal => {
                let id = context.api_key.get().or(context.principal.get());
                id.copied().map(LimitKey::Principal)
            }
            Self::Caller => None,
        })?
    }
}

/// The keys that its limiter may hold. governor's own table grows with every key and cannot be
/// listed. So every key passes this table first. It admits at most `max_keys` keys and the overflow
/// key.
///
/// The bound is strict. A key leaves this table only in a sweep, after it was silent for so long
/// that the same sweep has removed it from the limiter.
pub(crate) struct KeyTable {
    /// Time of the last request of each key, in whole seconds since `start`.
    held: Mutex<HashMap<LimitKey, u32, ahash::RandomState>>,
    max_keys: usize,
    /// After this long without a request a bucket is full again.
    refill: Duration,
    start: Instant,
    gauge: IntGauge,
}

impl KeyTable {
    pub(crate) fn new(max_keys: u32, refill: Duration, gauge: IntGauge) -> Self {
        Self {
            held: Mutex::default(),
            max_keys: usize::try_from(max_keys).unwrap_or(usize::MAX),
            refill,
            start: Instant::now(),
            gauge,
        }
    }

    /// The key itself, or the overflow key when the table is full of others.
    pub(crate) fn admit(&self, key: LimitKey) -> LimitKey {
        let now = self.seconds(Instant::now());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = held.get_mut(&key) {
            *seen = now;
            return key;
        }
        if held.len() >= self.max_keys {
            return LimitKey::Overflow;
        }
        held.insert(key, now);
        self.count(held.len());
        key
    }

    /// Removes the keys whose bucket has been full again for a while. `forget` first removes the
    /// limiter's own keys.
    pub(crate) fn sweep(&self, forget: impl FnOnce()) {
        // Read before `forget`: a key that arrives in between is newer, and stays.
        let now = Instant::now();
        forget();
        // Both times were rounded down to the second.
        let idle = self.refill.as_secs().saturating_add(2);
        let now = self.seconds(now);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, seen| u64::from(now.saturating_sub(*seen)) <= idle);
        // The new capacity is twice the length, so that a steady table is not rebuilt each time.
        if held.capacity() > held.len().saturating_mul(4) {
            let room = held.len().saturating_mul(2);
            held.shrink_to(room);
        }
        self.count(held.len());
    }

    fn seconds(&self, now: Instant) -> u32 {
        let seconds = now.saturating_duration_since(self.start).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    fn count(&self, keys: usize) {
        self.gauge.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> LimitKey {
        LimitKey::address(text.parse().unwrap())
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        assert_eq!(address("2001:db8:0:1::1"), address("2001:db8:0:1:ffff::2"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn digests_tell_keys_apart_and_stay_the_same() {
        let keys = [
            address("192.0.2.1"),
            address("192.0.2.2"),
            address("2001:db8::1"),
            LimitKey::Principal(Uuid::nil()),
            LimitKey::account("login", b"a"),
            LimitKey::account("confirmation", b"a"),
            LimitKey::account("login", b"b"),
            LimitKey::Overflow,
        ];
        let digests: std::collections::HashSet<u128> = keys.iter().map(LimitKey::digest).collect();
        assert_eq!(digests.len(), keys.len());
        // Replicas of different versions share buckets, so this must not change.
        assert_eq!(
            format!("{:032x}", address("192.0.2.1").digest()),
            "0912d6f21c45960b081377b16fbd9aa6"
        );
    }

    #[test]
    fn a_full_table_holds_no_more_until_somebody_has_gone() {
        let gauge = IntGauge::new("keys", "keys").unwrap();
        let refill = Duration::ZERO;
        let mut table = KeyTable::new(2, refill, gauge.clone());
        let (a, b, c) = (
            address("192.0.2.1"),
            address("192.0.2.2"),
            address("192.0.2.3"),
        );
        assert_eq!(
            [a, b, c, a].map(|key| table.admit(key)),
            [a, b, LimitKey::Overflow, a]
        );
        assert_eq!(gauge.get(), 2);
        // The limiter may still count the last requests of these keys.
        table.sweep(|| {});
        assert_eq!(table.admit(c), LimitKey::Overflow);
        // Later only `b` has sent another request.
        table.start = table.start.checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(table.admit(b), b);
        table.sweep(|| {});
        assert_eq!(gauge.get(), 1);
        assert_eq!([c, a].map(|key| table.admit(key)), [c, LimitKey::Overflow]);
    }
}
