//! Limits how often passwords can be guessed, by client address and by account.
//!
//! The limit by account stops an attacker who guesses from many addresses. Alone it would allow an
//! attacker to lock the owner out with wrong passwords. So a client address that has sent the right
//! password of an account gets an allowance for that account. The allowance is as many wrong
//! passwords in a row as the burst. Every right password refills it, and it is spent before the
//! common bucket.
//!
//! Logins and confirmations have separate buckets, so that wrong logins do not block a user who is
//! logged in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use limits::{LimitKey, RateLimit, RateLimitExceeded, RateLimits};
use quick_cache::sync::Cache;
use request::RequestContext;
use uuid::Uuid;

use super::domain::Email;

/// Limit of stored pairs of account and client address. Beyond it, pairs that were not used for a
/// long time are dropped and lose their allowance only.
const REMEMBERED: usize = 10_000;

/// The account whose password is guessed at a login.
#[derive(Debug, Clone, Copy)]
pub enum Account<'a> {
    /// The account of a user.
    Of(Uuid),
    /// An address without a user. It has the same limit, so that the limit does not reveal whether
    /// a user exists.
    Unknown(&'a Email),
}

/// The limits of guesses. `None` where limits are off.
pub struct Throttle {
    address: Option<RateLimit>,
    account: Option<RateLimit>,
    familiar: Cache<(LimitKey, LimitKey), Arc<AtomicU32>>,
    allowance: u32,
}

/// The permission for one guess.
#[must_use]
pub struct Guess<'a> {
    throttle: &'a Throttle,
    /// Account and client address.
    from: Option<(LimitKey, LimitKey)>,
}

impl Throttle {
    /// The throttle of a process, with the limits of the configuration.
    #[must_use]
    pub fn new(limits: &RateLimits) -> Self {
        Self {
            address: limits.auth.clone(),
            account: limits.account.clone(),
            familiar: Cache::new(REMEMBERED),
            allowance: limits.account.as_ref().map_or(0, RateLimit::burst),
        }
    }

    /// Takes one guess at a login. A layer before the route applies the limit by address.
    ///
    /// # Errors
    /// [`RateLimitExceeded`].
    pub async fn login(&self, account: Account<'_>) -> Result<Guess<'_>, RateLimitExceeded> {
        self.guess(match account {
            Account::Of(user) => LimitKey::account("login", user.as_bytes()),
            Account::Unknown(email) => LimitKey::account("login", email.as_str().as_bytes()),
        })
        .await
    }

    /// Takes one guess at the confirmation of the own password, also from the limit by address.
    ///
    /// # Errors
    /// [`RateLimitExceeded`].
    pub async fn confirmation(&self, user: Uuid) -> Result<Guess<'_>, RateLimitExceeded> {
        if let (Some(limit), Some(client)) = (&self.address, client()) {
            limit.take(client).await?;
        }
        self.guess(LimitKey::account("confirmation", user.as_bytes()))
            .await
    }

    async fn guess(&self, account: LimitKey) -> Result<Guess<'_>, RateLimitExceeded> {
        let Some(limit) = &self.account else {
            return Ok(Guess {
                throttle: self,
                from: None,
            });
        };
        let from = client().map(|client| (account, client));
        if !from.is_some_and(|from| self.spend(&from)) {
            limit.take(account).await?;
        }
        Ok(Guess {
            throttle: self,
            from,
        })
    }

    /// Spends one of the allowance of a client address. Returns false if there is none left.
    fn spend(&self, from: &(LimitKey, LimitKey)) -> bool {
        self.familiar.get(from).is_some_and(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        })
    }
}

impl Guess<'_> {
    /// Refills the allowance after a right guess.
    pub fn was_right(self) {
        if let Some(from) = self.from {
            let full = Arc::new(AtomicU32::new(self.throttle.allowance));
            self.throttle.familiar.insert(from, full);
        }
    }
}

/// The client address of the current request.
fn client() -> Option<LimitKey> {
    RequestContext::with(|context| context.map(|context| LimitKey::address(context.client_address)))
}
