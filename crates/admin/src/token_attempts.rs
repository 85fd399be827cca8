//! Limit of wrong tokens on the admin listener.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that have their own count. All others share one.
const MAX_CLIENTS: usize = 1_024;
/// Time after the first wrong token of a client until its count is reset.
const WINDOW: Duration = Duration::from_mins(1);
/// Key of the count that the clients beyond [`MAX_CLIENTS`] share.
const SHARED_KEY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Counts wrong tokens by client, an IPv4 address or an IPv6 /64.
pub(crate) struct TokenAttempts {
    max_wrong: u32,
    windows: Mutex<HashMap<IpAddr, Window>>,
}

/// Wrong tokens of a client since the first one.
struct Window {
    began: Instant,
    wrong: u32,
}

impl TokenAttempts {
    pub(crate) fn new(max_wrong: u32) -> Self {
        Self {
            max_wrong,
            windows: Mutex::default(),
        }
    }

    /// Whether a token is right, as decided by `check`. For a client that has used up its wrong
    /// tokens, `check` is not called, and the error is the remaining time.
    pub(crate) fn verify(
        &self,
        client: IpAddr,
        now: Instant,
        check: impl FnOnce() -> bool,
    ) -> Result<bool, Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = network(client);
        if !windows.contains_key(&client) && windows.len() >= MAX_CLIENTS {
            windows.retain(|_, window| now.duration_since(window.began) < WINDOW);
            if windows.len() >= MAX_CLIENTS {
                client = SHARED_KEY;
            }
        }
        if let Some(window) = windows.get(&client) {
            let left = WINDOW.saturating_sub(now.duration_since(window.began));
            if left.is_zero() {
                windows.remove(&client);
            } else if window.wrong >= self.max_wrong {
                return Err(left);
            }
        }
        let is_right = check();
        if !is_right {
            let fresh = Window {
                began: now,
                wrong: 0,
            };
            windows.entry(client).or_insert(fresh).wrong += 1;
        }
        Ok(is_right)
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_too_many_wrong_tokens_no_token_is_verified() {
        let (attempts, began) = (TokenAttempts::new(3), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let [one, neighbour, other] =
            ["2001:db8::1", "2001:db8::2:1", "192.0.2.1"].map(|text| text.parse().unwrap());
        for second in 0..3 {
            assert_eq!(attempts.verify(one, at(second), || false), Ok(false));
            assert_eq!(attempts.verify(other, at(second), || true), Ok(true));
        }
        for client in [one, neighbour] {
            let wait = attempts.verify(client, at(20), || unreachable!("no token is verified"));
            assert_eq!(wait, Err(Duration::from_secs(40)));
        }
        assert_eq!(attempts.verify(other, at(20), || true), Ok(true));
        assert_eq!(attempts.verify(one, at(60), || true), Ok(true));
    }

    #[test]
    fn many_addresses_take_bounded_memory_and_share_one_count() {
        let (attempts, now) = (TokenAttempts::new(2), Instant::now());
        let mut verified = 0_u32;
        for client in 0..10_000_u32 {
            let client = std::net::Ipv4Addr::from_bits(client).into();
            verified += u32::from(attempts.verify(client, now, || false).is_ok());
        }
        assert_eq!(verified, 1_024 + 2);
        assert_eq!(attempts.windows.lock().unwrap().len(), 1_025);
        let later = now + WINDOW;
        let client = "192.0.2.1".parse().unwrap();
        assert_eq!(attempts.verify(client, later, || false), Ok(false));
        assert_eq!(attempts.windows.lock().unwrap().len(), 1);
    }
}
