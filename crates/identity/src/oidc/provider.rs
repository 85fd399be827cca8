//! One outside issuer: its keys, its rules and the state of both.

use std::sync::Arc;

use client::{CallError, Client, Limits, Tls};
use futures_util::FutureExt as _;
use lifecycle::Lifecycle;
use lifecycle::health::{Health, Schedule};
use settings::clock::SharedClock;
use tracing::Instrument as _;

use super::config::{Config, Issuer};
use super::key_cache::{KeyCache, Missing};
use super::metadata::{self, FetchError, Fetched};
use super::token::{self, Reason, VerifiedClaims};
use crate::metrics::{IdentityMetrics, ProviderMetrics};

/// Size limit of the metadata and of the keys. Those of large providers have 20 KiB.
const MAX_DOCUMENT_BYTES: usize = 256 << 10;
/// Attempts within the time limit of a fetch.
const ATTEMPTS: u32 = 2;

/// All outside issuers.
#[derive(Clone)]
pub struct Providers(Arc<[Arc<Provider>]>);

/// An outside issuer. Its tokens are verified with keys that it publishes.
pub struct Provider {
    issuer: Issuer,
    keys: KeyCache,
    client: Client,
    metrics: ProviderMetrics,
    clock: SharedClock,
}

/// A token with the key generation that verified it.
#[derive(Debug, Clone)]
pub(super) struct VerifiedToken {
    pub(super) claims: VerifiedClaims,
    key_generation: u64,
}

/// Reasons why a token is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The token is not valid.
    Invalid(Reason),
    /// The keys of the issuer are not known.
    Unavailable,
}

impl Providers {
    /// The configured issuers. Nothing is fetched yet. `client` makes a client for outgoing calls.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(
        config: &Config,
        client: impl Fn(Limits, Tls) -> Result<Client, CallError>,
        metrics: &IdentityMetrics,
        clock: &SharedClock,
    ) -> Result<Self, CallError> {
        let providers = config.issuers.iter().map(|issuer| {
            let (limits, tls) = outgoing(issuer);
            Ok(Arc::new(Provider {
                keys: KeyCache::new(issuer),
                client: client(limits, tls)?,
                metrics: ProviderMetrics::new(metrics, issuer.name),
                clock: Arc::clone(clock),
                issuer: issuer.clone(),
            }))
        });
        Ok(Self(providers.collect::<Result<_, CallError>>()?))
    }

    /// Starts to fetch the keys. Readiness checks report issuers whose keys cannot be fetched. They
    /// are not critical, because a provider's outage must not take the service out.
    pub fn start(&self, lifecycle: &Lifecycle, health: &Health) {
        for provider in self.0.iter() {
            let name = provider.issuer.name;
            let (kept, stop) = (Arc::clone(provider), lifecycle.soft());
            lifecycle.spawn(format!("identity provider {name}"), async move {
                stop.run_until_cancelled(kept.keep_keys()).await;
            });
            let checked = Arc::clone(provider);
            let probe = move || {
                let succeeded = checked.keys.has_succeeded().then_some(());
                let answer = succeeded.ok_or("its keys cannot be fetched");
                std::future::ready(answer).boxed()
            };
            let check = format!("identity_provider_{name}");
            health.add_check(check, false, Schedule::default(), Arc::new(probe));
        }
    }

    /// The issuer with this `iss`.
    pub(super) fn find(&self, iss: &str) -> Option<&Arc<Provider>> {
        self.0.iter().find(|provider| provider.issuer.issuer == iss)
    }
}

/// The limits of the calls to an issuer, and whether they need TLS.
fn outgoing(issuer: &Issuer) -> (Limits, Tls) {
    let limits = Limits {
        timeout: issuer.fetch_timeout,
        max_body_bytes: MAX_DOCUMENT_BYTES,
        attempts: ATTEMPTS,
        ..Limits::default()
    };
    let tls = if issuer.issuer.starts_with("https:") {
        Tls::System
    } else {
        Tls::Off
    };
    (limits, tls)
}

impl Provider {
    /// Fetches the keys once, for checks of a configuration.
    ///
    /// # Errors
    /// A line that says what failed.
    pub async fn check(
        issuer: &Issuer,
        client: impl Fn(Limits, Tls) -> Result<Client, CallError>,
    ) -> Result<(), String> {
        let (limits, tls) = outgoing(issuer);
        let client = client(limits, tls).map_err(|error| error.to_string())?;
        let fetched = metadata::fetch(&client, issuer).await;
        let fetched = fetched.map_err(|error| error.to_string())?;
        if fetched.keys.len() == 0 {
            return Err("keys: none of them can verify tokens".to_owned());
        }
        Ok(())
    }

    /// Fetches the keys now, on schedule and when a token has an unknown key, without an end.
    async fn keep_keys(&self) {
        let mut retries = self.keys.retries();
        loop {
            let began = self.keys.begin_fetch();
            let result = self.fetch().await;
            let pause = self.keys.end_fetch(began, result, &mut retries);
            self.keys.pause(pause).await;
        }
    }

    async fn fetch(&self) -> Result<Fetched, FetchError> {
        // The root of its own trace, like the run of a worker.
        let span = tracing::info_span!(
            parent: None,
            "fetch",
            otel.name = "fetch identity provider keys",
            issuer = self.issuer.name,
            otel.status_code = tracing::field::Empty,
        );
        let fetch = metadata::fetch(&self.client, &self.issuer);
        let result = fetch.instrument(span.clone()).await;
        if let Ok(fetched) = &result {
            self.metrics.set_keys(fetched.keys.len());
        } else {
            span.record("otel.status_code", "ERROR");
        }
        span.in_scope(|| self.tell(result.as_ref().err()));
        result
    }

    fn tell(&self, error: Option<&FetchError>) {
        self.metrics.count_fetch(error.is_none());
        let issuer = self.issuer.name;
        if let Some(error) = error {
            tracing::warn!(
                issuer,
                %error,
                "the keys of an identity provider could not be fetched; trying again"
            );
        } else {
            tracing::debug!(issuer, "the keys of an identity provider were fetched");
        }
    }

    /// Verifies a token. It waits for the keys if they do not contain that of the token.
    pub(super) async fn verify(&self, token: &str) -> Result<VerifiedToken, Rejection> {
        let header = jsonwebtoken::decode_header(token);
        let header = header.map_err(|_| Rejection::Invalid("malformed"))?;
        let kid = token::check_header(&self.issuer, &header).map_err(Rejection::Invalid)?;
        let keys = self
            .keys
            .keys_with(kid)
            .await
            .map_err(|missing| match missing {
                Missing::Unknown => Rejection::Invalid("unknown key"),
                Missing::Unavailable => Rejection::Unavailable,
            })?;
        let key = keys.set.find(kid);
        let key = key.ok_or(Rejection::Invalid("unknown key"))?;
        let now = self.clock.now().unix_timestamp();
        let claims = token::verify(&self.issuer, key, header.alg, token, now);
        Ok(VerifiedToken {
            claims: claims.map_err(Rejection::Invalid)?,
            key_generation: keys.generation,
        })
    }

    /// Whether a token that was verified earlier is still valid: it has not expired, and the keys
    /// are the same and not too old.
    pub(super) fn is_still_valid(&self, token: &VerifiedToken) -> bool {
        let keys = self.keys.current();
        token.claims.expires_at > self.clock.now().unix_timestamp()
            && keys.is_some_and(|keys| keys.generation == token.key_generation)
    }

    /// Takes the result of a fetch, as the background task does.
    #[cfg(test)]
    pub(super) fn ended_fetch(&self, result: Result<Fetched, FetchError>) {
        let keys = &self.keys;
        keys.end_fetch(keys.begin_fetch(), result, &mut keys.retries());
    }

    /// Name in metrics and log lines.
    pub(super) fn name(&self) -> &'static str {
        self.issuer.name
    }

    /// Seconds after which the keys may be there.
    pub(super) fn retry_after(&self) -> u64 {
        self.issuer.refetch_interval.as_secs().max(1)
    }
}
