//! The rate limits' section of the configuration.

use crate::platform::settings::check::{at_least_one, rate};
use crate::platform::settings::{Raw, Reader, Secret, Setting};
use crate::settings;

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
        /// Sustained requests per second for one client address; fractions are allowed.
        pub default_per_second("default.per_second"): f64 = Same("50"), check rate;
        /// Requests at once for one client address.
        pub default_burst("default.burst"): u32 = Same("100"), check at_least_one;
        /// Sustained requests per second on `/api/*/auth/*`.
        pub auth_per_second("auth.per_second"): f64 = Same("5"), check rate;
        /// Requests at once on `/api/*/auth/*`.
        pub auth_burst("auth.burst"): u32 = Same("10"), check at_least_one;
        /// Keys that are remembered; beyond it new keys share one bucket until the sweep.
        pub max_keys("max_keys"): u32 = Same("100000"), check at_least_one;
        /// Where the state lives: `local`, or `redis` to share it among replicas.
        pub backend("backend"): LimitBackend = Same("local");
        /// The server when the backend is `redis`.
        pub redis_url("redis_url"): Option<Secret> = Unset;
    }
}

impl Config {
    /// Rules of this section that span keys.
    pub fn validate(&self, reader: &mut Reader) {
        if self.backend == LimitBackend::Redis {
            reader.refuse(
                "rate_limit.backend",
                "is redis, which this version does not have yet; use local",
            );
        }
    }
}
