//! Who shares a bucket, and how many of them are remembered at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use http::Request;
use prometheus::IntGauge;
use quanta::Instant;
use tower_governor::GovernorError;
use tower_governor::key_extractor::KeyExtractor;
use uuid::Uuid;

use request::RequestContext;

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// One client: an IPv4 address, or an IPv6 network of 64 bits.
    Address(IpAddr),
    /// One authenticated user, wherever the requests come from.
    Principal(Uuid),
    /// One account whose password is asked for: a digest, see [`Key::account`].
    Account(u128),
    /// All that come while the table is full.
    Overflow,
}

impl Key {
    /// One IPv6 customer has a /64 at least, and can choose any address in it.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        })
    }

    /// One account, by what identifies it, apart from others for another `purpose`.
    #[must_use]
    pub fn account(purpose: &str, identity: &[u8]) -> Self {
        // The purpose is text, so that the byte between the two is in none.
        Self::Account(half_sha256(&[purpose.as_bytes(), &[0xff], identity]))
    }

    /// A name for the key outside of this process. The first half of a SHA-256: a
    /// dump of the server's keys shows no address to whoever does not try them all.
    pub(super) fn digest(&self) -> u128 {
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

/// What of the request context is the key.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyedBy {
    Address,
    Principal,
    /// Nothing: the caller of [`super::Limit::take`] gives it.
    Caller,
}

/// Takes the key from the request context, and a place in the table for it.
#[derive(Clone)]
pub struct ContextKey {
    pub(super) by: KeyedBy,
    pub(super) table: Arc<Table>,
}

impl ContextKey {
    /// The key of the request that is being worked on, whether or not the table has
    /// a place for it.
    pub(super) fn current(&self) -> Option<Key> {
        RequestContext::with(|context| match self.by {
            KeyedBy::Address => context.map(|context| Key::address(context.client_address)),
            KeyedBy::Principal => context?.principal.get().copied().map(Key::Principal),
            KeyedBy::Caller => None,
        })
    }
}

impl KeyExtractor for ContextKey {
    type Key = Key;

    fn extract<T>(&self, _: &Request<T>) -> Result<Key, GovernorError> {
        let key = self.current().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(self.table.admit(key))
    }
}

/// The keys that the limiter beside it may hold. governor's own table grows with
/// every key that it is asked for and cannot be asked what is in it; so every key
/// passes here first, and at most `max_keys` and the overflow key get through.
///
/// The bound is hard: a key leaves this table only in a sweep, after it has been
/// silent for so long that the same sweep has removed it from the limiter.
pub(super) struct Table {
    /// When each key came last, in whole seconds since `start`.
    held: Mutex<HashMap<Key, u32, ahash::RandomState>>,
    max_keys: usize,
    /// After this long without a request a bucket is full, whatever was in it.
    refill: Duration,
    start: Instant,
    gauge: IntGauge,
}

impl Table {
    pub(super) fn new(max_keys: u32, refill: Duration, gauge: IntGauge) -> Self {
        Self {
            held: Mutex::default(),
            max_keys: usize::try_from(max_keys).unwrap_or(usize::MAX),
            refill,
            start: Instant::now(),
            gauge,
        }
    }

    /// The key itself, or the overflow key when the table is full of others.
    pub(super) fn admit(&self, key: Key) -> Key {
        let now = self.seconds(Instant::now());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = held.get_mut(&key) {
            *seen = now;
            return key;
        }
        if held.len() >= self.max_keys {
            return Key::Overflow;
        }
        held.insert(key, now);
        self.count(held.len());
        key
    }

    /// Forgets the keys whose bucket has been full again for a while. `forget`
    /// makes the limiter forget its own first.
    pub(super) fn sweep(&self, forget: impl FnOnce()) {
        // Read before `forget`: who comes in between is younger, and stays.
        let now = Instant::now();
        forget();
        // Both ends were rounded down to the second.
        let idle = self.refill.as_secs().saturating_add(2);
        let now = self.seconds(now);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, seen| u64::from(now.saturating_sub(*seen)) <= idle);
        // Twice what is in it, so that a steady table is not built anew each time.
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

    fn address(text: &str) -> Key {
        Key::address(text.parse().unwrap())
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
            Key::Principal(Uuid::nil()),
            Key::account("login", b"a"),
            Key::account("confirmation", b"a"),
            Key::account("login", b"b"),
            Key::Overflow,
        ];
        let digests: std::collections::HashSet<u128> = keys.iter().map(Key::digest).collect();
        assert_eq!(digests.len(), keys.len());
        // Replicas of different versions share buckets: this must not change.
        assert_eq!(
            format!("{:032x}", address("192.0.2.1").digest()),
            "0912d6f21c45960b081377b16fbd9aa6"
        );
    }

    #[test]
    fn a_full_table_holds_no_more_until_somebody_has_gone() {
        let gauge = IntGauge::new("keys", "keys").unwrap();
        let refill = Duration::ZERO;
        let mut table = Table::new(2, refill, gauge.clone());
        let (a, b, c) = (
            address("192.0.2.1"),
            address("192.0.2.2"),
            address("192.0.2.3"),
        );
        assert_eq!(
            [a, b, c, a].map(|key| table.admit(key)),
            [a, b, Key::Overflow, a]
        );
        assert_eq!(gauge.get(), 2);
        // Whoever was here a moment ago may still owe the limiter something.
        table.sweep(|| {});
        assert_eq!(table.admit(c), Key::Overflow);
        // Later only `b` has come again.
        table.start = table.start.checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(table.admit(b), b);
        table.sweep(|| {});
        assert_eq!(gauge.get(), 1);
        assert_eq!([c, a].map(|key| table.admit(key)), [c, Key::Overflow]);
    }
}
