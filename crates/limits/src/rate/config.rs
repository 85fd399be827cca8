//! Configuration of the rate limits.

use std::time::Duration;

use settings::check::{at_least_one, positive, rate};
use settings::{RawValue, Reader, Secret, Setting, settings};

use crate::rate::shared;
use crate::rate::shared::Pace;

/// Location of the state of the limiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBackend {
    /// In this process.
    Local,
    /// Shared among replicas.
    Redis,
}

impl Setting for LimitBackend {
    const KIND: &'static str = "local or redis";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        match raw.text.as_str() {
            "local" => Ok(Self::Local),
            "redis" => Ok(Self::Redis),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

settings! {
    /// Rate limits (GCRA), in requests a second for each key.
    pub struct Config("rate_limit", validate) {
        /// Whether requests are limited.
        pub enabled("enabled"): bool = Same("true");
        /// Sustained requests a second of one client address, and separately of one principal. A
        /// client address is an IPv4 address or an IPv6 /64. A user with several addresses, or an
        /// API key, has one bucket for all of its authenticated requests. Fractions are allowed.
        pub default_per_second("default.per_second"): f64 = Same("50"), check rate;
        /// Requests that one client address, or one principal, may send at once.
        pub default_burst("default.burst"): u32 = Same("100"), check at_least_one;
        /// Sustained requests a second of one client address on `/api/*/auth/*`, and on routes that
        /// require a password again or change an e-mail address.
        pub auth_per_second("auth.per_second"): f64 = Same("5"), check rate;
        /// Requests on these routes that one client address may send at once.
        pub auth_burst("auth.burst"): u32 = Same("10"), check at_least_one;
        /// Sustained password checks a second of one account, over all client addresses together.
        pub account_per_second("account.per_second"): f64 = Same("0.1"), check rate;
        /// Password checks of one account at once. It is also the allowance of wrong passwords in a
        /// row for a client address where the password was right before. That allowance is counted
        /// separately.
        pub account_burst("account.burst"): u32 = Same("20"), check at_least_one;
        /// Maximum keys in the table of each limiter. When the table is full, new keys share one
        /// bucket until the next sweep.
        pub max_keys("max_keys"): u32 = Same("100000"), check at_least_one;
        /// Location of the state: `local`, or `redis` to share it among replicas.
        pub backend("backend"): LimitBackend = Same("local");
        /// URL of the Redis or Valkey server of the backend `redis`: `redis://` or `rediss://`,
        /// with user, password and database.
        pub redis_url("redis_url"): Option<Secret> = Unset;
        /// Maximum wait of a request for the shared decision. After it the local limiter decides.
        pub redis_timeout("redis_timeout"): Duration = Same("10ms"), check positive;
        /// Prefix of every key on the server. Services with the same prefix share their limits.
        pub redis_prefix("redis_prefix"): String = Same("{service}");
    }
}

/// Longest time in which an empty bucket may fill. A longer one has no use, and the script counts
/// at most 104 days exactly.
const LONGEST_REFILL: Duration = Duration::from_hours(30 * 24);

impl Config {
    /// Checks the rules of this section that involve several keys.
    fn validate(&self, reader: &mut Reader) {
        for (key, per_second, burst) in [
            (
                "rate_limit.default.per_second",
                self.default_per_second,
                self.default_burst,
            ),
            (
                "rate_limit.auth.per_second",
                self.auth_per_second,
                self.auth_burst,
            ),
            (
                "rate_limit.account.per_second",
                self.account_per_second,
                self.account_burst,
            ),
        ] {
            if Pace::new(per_second, burst).refill() > LONGEST_REFILL {
                reader.refuse(
                    key,
                    "is so low that the burst takes more than 30 days to come back",
                );
            }
        }
        match &self.redis_url {
            Some(url) => {
                if shared::client(url.expose()).is_err() {
                    reader.refuse(
                        "rate_limit.redis_url",
                        "is not the URL of a Redis server, redis://HOST:PORT",
                    );
                }
            }
            None => {
                if self.backend == LimitBackend::Redis {
                    reader.refuse(
                        "rate_limit.backend",
                        "is redis, which needs rate_limit.redis_url",
                    );
                }
            }
        }
    }
}
