//! The keys of an issuer, fetched in the background.
//!
//! A task fetches the keys on a schedule, after a failure with backoff, and when a token has an
//! unknown key. Fetches for unknown keys have a shortest interval, so that invented key names cause
//! no load at the provider. All requests that wait share one fetch, and none of them can cancel it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use settings::backoff::{Backoff, jittered};
use tokio::sync::{Notify, watch};

use super::config::Issuer;
use super::key_set::KeySet;
use super::metadata::{FetchError, Fetched};

/// The pause after the first failed fetch.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Replicas do not fetch at the same time.
const JITTER: f64 = 0.1;

/// The keys of an issuer and the state of their fetches.
pub(super) struct KeyCache {
    state: watch::Sender<State>,
    wake: Notify,
    refresh_interval: Duration,
    refetch_interval: Duration,
    max_age: Duration,
    longest_wait: Duration,
}

#[derive(Clone, Default)]
struct State {
    keys: Option<Keys>,
    /// Start of the last fetch.
    began: Option<Instant>,
    is_fetching: bool,
    /// Number of fetches that have ended.
    ended: u64,
    has_succeeded: bool,
}

/// A key set with a number that distinguishes it from its predecessors.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) set: Arc<KeySet>,
    pub(super) generation: u64,
    /// Start of the last fetch that returned this set.
    fetched: Instant,
}

/// Reasons why there is no key for a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The issuer has no such key.
    Unknown,
    /// The keys of the issuer are not known.
    Unavailable,
}

impl KeyCache {
    pub(super) fn new(issuer: &Issuer) -> Self {
        Self {
            state: watch::Sender::default(),
            wake: Notify::new(),
            refresh_interval: issuer.refresh_interval,
            refetch_interval: issuer.refetch_interval,
            max_age: issuer.max_key_age,
            longest_wait: issuer.fetch_timeout,
        }
    }

    /// The keys, if they are not too old.
    pub(super) fn current(&self) -> Option<Keys> {
        let state = self.state.borrow();
        let keys = state.keys.as_ref()?;
        (keys.fetched.elapsed() < self.max_age).then(|| keys.clone())
    }

    /// Whether the last fetch succeeded.
    pub(super) fn has_succeeded(&self) -> bool {
        self.state.borrow().has_succeeded
    }

    /// The keys, of which one has this name. If there is none, it waits for a fetch, unless the
    /// last one began a short time ago.
    pub(super) async fn keys_with(&self, kid: &str) -> Result<Keys, Missing> {
        if let Some(keys) = self.known(kid) {
            return Ok(keys);
        }
        self.wait_for_fetch().await;
        self.known(kid).ok_or_else(|| match self.current() {
            Some(_) => Missing::Unknown,
            None => Missing::Unavailable,
        })
    }

    fn known(&self, kid: &str) -> Option<Keys> {
        self.current().filter(|keys| keys.set.find(kid).is_some())
    }

    async fn wait_for_fetch(&self) {
        let mut states = self.state.subscribe();
        let (is_fetching, ended) = {
            let state = states.borrow_and_update();
            (state.is_fetching, state.ended)
        };
        if !is_fetching {
            if !self.may_refetch() {
                return;
            }
            self.wake.notify_one();
        }
        let fetched = states.wait_for(|state| state.ended > ended);
        // The limit counts during a drain, when nothing is fetched any more.
        let _fetched = tokio::time::timeout(self.longest_wait, fetched).await;
    }

    /// Whether the last fetch began long enough ago for another one.
    fn may_refetch(&self) -> bool {
        let began = self.state.borrow().began;
        began.is_none_or(|began| began.elapsed() >= self.refetch_interval)
    }

    /// Marks the start of a fetch and returns its time.
    pub(super) fn begin_fetch(&self) -> Instant {
        let began = Instant::now();
        self.state.send_modify(|state| {
            state.began = Some(began);
            state.is_fetching = true;
        });
        began
    }

    /// Takes the result of the fetch that began at `began`, and returns the pause until the next
    /// one. After a failure the old keys stay in use.
    pub(super) fn end_fetch(
        &self,
        began: Instant,
        result: Result<Fetched, FetchError>,
        retries: &mut Backoff,
    ) -> Duration {
        let pause = if let Ok(fetched) = &result {
            retries.reset();
            let max_age = fetched.max_age.unwrap_or(self.refresh_interval);
            let shortest = self.refetch_interval.min(self.refresh_interval);
            max_age.clamp(shortest, self.refresh_interval)
        } else {
            retries.next_pause()
        };
        self.state.send_modify(|state| {
            state.is_fetching = false;
            state.ended += 1;
            state.has_succeeded = result.is_ok();
            if let Ok(fetched) = result {
                state.replace(fetched.keys, began);
            }
        });
        jittered(pause, JITTER)
    }

    /// The pauses after failures.
    pub(super) fn retries(&self) -> Backoff {
        Backoff::new(
            FIRST_RETRY.min(self.refetch_interval),
            self.refetch_interval,
        )
    }

    /// Waits for the next fetch of the schedule, or for a token with an unknown key.
    pub(super) async fn pause(&self, pause: Duration) {
        let woken = async {
            loop {
                self.wake.notified().await;
                // A notification may have been sent before the last fetch began.
                if self.may_refetch() {
                    return;
                }
            }
        };
        // The timeout is the schedule.
        let _woken = tokio::time::timeout(pause, woken).await;
    }
}

impl State {
    fn replace(&mut self, set: KeySet, fetched: Instant) {
        let (set, generation) = match self.keys.take() {
            Some(old) if *old.set == set => (old.set, old.generation),
            Some(old) => (Arc::new(set), old.generation + 1),
            None => (Arc::new(set), 0),
        };
        self.keys = Some(Keys {
            set,
            generation,
            fetched,
        });
    }
}

#[cfg(test)]
mod tests;
