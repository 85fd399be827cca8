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

/// Capacity of the cache of allowances. Beyond it, allowances that were not used for a long time are
/// dropped.
const CACHE_CAPACITY: usize = 10_000;

/// The account of a login attempt.
#[derive(Debug, Clone, Copy)]
pub enum LoginAccount<'a> {
    /// The account of a user.
    Known(Uuid),
    /// An address without a user. It has the same limit, so that the limit does not reveal whether
    /// a user exists.
    Unknown(&'a Email),
}

/// The limits of password attempts. `None` where limits are off.
pub struct PasswordThrottle {
    address_limit: Option<RateLimit>,
    account_limit: Option<RateLimit>,
    /// Attempts that are left, by account and client address.
    allowances: Cache<(LimitKey, LimitKey), Arc<AtomicU32>>,
    full_allowance: u32,
}

/// The permission to verify one password.
#[must_use]
pub struct AttemptPermit<'a> {
    throttle: &'a PasswordThrottle,
    /// Account and client address, the key of the allowance.
    allowance_key: Option<(LimitKey, LimitKey)>,
}

impl PasswordThrottle {
    /// The throttle of a process, with the limits of the configuration.
    #[must_use]
    pub fn new(limits: &RateLimits) -> Self {
        Self {
            address_limit: limits.auth.clone(),
            account_limit: limits.account.clone(),
            allowances: Cache::new(CACHE_CAPACITY),
            full_allowance: limits.account.as_ref().map_or(0, RateLimit::burst),
        }
    }

    /// Permits one login attempt. A layer before the route applies the limit by address.
    ///
    /// # Errors
    /// [`RateLimitExceeded`].
    pub async fn login(
        &self,
        account: LoginAccount<'_>,
    ) -> Result<AttemptPermit<'_>, RateLimitExceeded> {
        self.permit(match account {
            LoginAccount::Known(user) => LimitKey::account("login", user.as_bytes()),
            LoginAccount::Unknown(email) => LimitKey::account("login", email.as_str().as_bytes()),
        })
        .await
    }

    /// Permits one confirmation of the own password. It also counts for the limit by address.
    ///
    /// # Errors
    /// [`RateLimitExceeded`].
    pub async fn confirmation(&self, user: Uuid) -> Result<AttemptPermit<'_>, RateLimitExceeded> {
        if let (Some(limit), Some(client)) = (&self.address_limit, client_key()) {
            limit.take(client).await?;
        }
        self.permit(LimitKey::account("confirmation", user.as_bytes()))
            .await
    }

    async fn permit(&self, account: LimitKey) -> Result<AttemptPermit<'_>, RateLimitExceeded> {
        let Some(limit) = &self.account_limit else {
            return Ok(AttemptPermit {
                throttle: self,
                allowance_key: None,
            });
        };
        let allowance_key = client_key().map(|client| (account, client));
        if !allowance_key.is_some_and(|key| self.spend_allowance(&key)) {
            limit.take(account).await?;
        }
        Ok(AttemptPermit {
            throttle: self,
            allowance_key,
        })
    }

    /// Spends one attempt of an allowance. Returns false if none is left.
    fn spend_allowance(&self, key: &(LimitKey, LimitKey)) -> bool {
        self.allowances.get(key).is_some_and(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        })
    }
}

impl AttemptPermit<'_> {
    /// Refills the allowance after a right password.
    pub fn succeeded(self) {
        if let Some(key) = self.allowance_key {
            let full = Arc::new(AtomicU32::new(self.throttle.full_allowance));
            self.throttle.allowances.insert(key, full);
        }
    }
}

/// The client address of the current request.
fn client_key() -> Option<LimitKey> {
    RequestContext::with(|context| LimitKey::address(context.client_address))
}
