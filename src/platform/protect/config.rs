//! The rate limits' section of the configuration.

use std::time::Duration;

use settings::check::{at_least_one, positive, rate};
use settings::settings;
use settings::{Raw, Reader, Secret, Setting};

use super::shared::{self, Pace};

/// Where the state of the limiters lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBackend {
    /// In this process.
    Local,
    /// Shared among replicas.
    Redis,
}

impl Setting for LimitBackend {
    const KIND: &'static str = "local or redis";
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw.text.as_str() {
            "local" => Ok(Self::Local),
            "redis" => Ok(Self::Redis),
            _ => Err(format!("is not {}", Self::KIND)),
        }
    }
}

settings! {
    /// Rate limits (GCRA), in requests per second and key.
    pub struct Config("rate_limit") {
        /// Whether requests are limited at all.
        pub enabled("enabled"): bool = Same("true");
        /// Sustained requests per second of one client address (an IPv4 address or an IPv6 /64), and apart from that of one principal: a user with several addresses, or an API key, has one bucket for all of its authenticated requests. Fractions are allowed.
        pub default_per_second("default.per_second"): f64 = Same("50"), check rate;
        /// Requests at once of one client address, and of one principal.
        pub default_burst("default.burst"): u32 = Same("100"), check at_least_one;
        /// Sustained requests per second for one client address on `/api/*/auth/*`, and wherever a password is asked for again or an address is changed.
        pub auth_per_second("auth.per_second"): f64 = Same("5"), check rate;
        /// Those requests at once.
        pub auth_burst("auth.burst"): u32 = Same("10"), check at_least_one;
        /// Sustained checks of one account's password per second, over all client addresses together.
        pub account_per_second("account.per_second"): f64 = Same("0.1"), check rate;
        /// Those checks at once. Also the wrong passwords in a row from a client address where the password was right before, which are counted apart.
        pub account_burst("account.burst"): u32 = Same("20"), check at_least_one;
        /// Keys that each limiter remembers at most; beyond it new keys share one bucket until the sweep.
        pub max_keys("max_keys"): u32 = Same("100000"), check at_least_one;
        /// Where the state lives: `local`, or `redis` to share it among replicas.
        pub backend("backend"): LimitBackend = Same("local");
        /// The Redis or Valkey server of the backend `redis`: `redis://` or `rediss://`, with user, password and database.
        pub redis_url("redis_url"): Option<Secret> = Unset;
        /// Longest wait of a request for the shared decision; then the local limiter takes over.
        pub redis_timeout("redis_timeout"): Duration = Same("10ms"), check positive;
        /// Start of every key on the server; services that share it under one name share their limits.
        pub redis_prefix("redis_prefix"): String = Same("{service}");
    }
}

/// A bucket that takes longer to fill has no use, and its time no exact number.
const LONGEST_REFILL: Duration = Duration::from_hours(30 * 24);

impl Config {
    /// Rules of this section that span keys.
    pub fn validate(&self, reader: &mut Reader) {
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
