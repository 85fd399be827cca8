//! Bounds how often passwords can be guessed: by client address, and by account.
//!
//! The limit by account holds off who guesses from many addresses. Alone it would let
//! anybody lock the owner out, with wrong passwords. So a client address where the
//! account's password was right keeps an allowance of its own: as many wrong ones in a
//! row as the burst, full again with every right one. It is spent before the common
//! bucket is. Logins and confirmations have separate buckets: who guesses at logins
//! refuses nothing to a user who is logged in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use quick_cache::sync::Cache;
use request::RequestContext;
use uuid::Uuid;

use super::domain::Email;
use http_server::rate_limit::Key;
use http_server::rate_limit::Limit;
use http_server::rate_limit::Limits;
use http_server::rate_limit::TooSoon;

/// Pairs of account and client address that are remembered; beyond it those go that
/// were not used for longest, and with them no more than the allowance.
const REMEMBERED: usize = 10_000;

/// Whose password is guessed at a login.
#[derive(Debug, Clone, Copy)]
pub enum Account<'a> {
    /// A user's.
    Of(Uuid),
    /// Nobody's: refused at the same pace, so that its pace says nothing.
    Unknown(&'a Email),
}

/// The limits of guesses; none where limits are off.
pub struct Throttle {
    address: Option<Limit>,
    account: Option<Limit>,
    familiar: Cache<(Key, Key), Arc<AtomicU32>>,
    allowance: u32,
}

/// A guess that may be made.
#[must_use]
pub struct Guess<'a> {
    throttle: &'a Throttle,
    /// Account and client address.
    from: Option<(Key, Key)>,
}

impl Throttle {
    /// The throttle of a process.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            address: limits.auth.clone(),
            account: limits.account.clone(),
            familiar: Cache::new(REMEMBERED),
            allowance: limits.account.as_ref().map_or(0, Limit::burst),
        }
    }

    /// Passes a login; the limit by address stands before its route.
    ///
    /// # Errors
    /// [`TooSoon`].
    pub async fn login(&self, account: Account<'_>) -> Result<Guess<'_>, TooSoon> {
        self.guess(match account {
            Account::Of(user) => Key::account("login", user.as_bytes()),
            Account::Unknown(email) => Key::account("login", email.as_str().as_bytes()),
        })
        .await
    }

    /// Passes a user's own password, asked for again.
    ///
    /// # Errors
    /// [`TooSoon`].
    pub async fn confirmation(&self, user: Uuid) -> Result<Guess<'_>, TooSoon> {
        if let (Some(limit), Some(client)) = (&self.address, client()) {
            limit.take(client).await?;
        }
        self.guess(Key::account("confirmation", user.as_bytes()))
            .await
    }

    async fn guess(&self, account: Key) -> Result<Guess<'_>, TooSoon> {
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

    /// Takes one of the allowance of a familiar address, when it has one.
    fn spend(&self, from: &(Key, Key)) -> bool {
        self.familiar.get(from).is_some_and(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        })
    }
}

impl Guess<'_> {
    /// The guess was right.
    pub fn was_right(self) {
        if let Some(from) = self.from {
            let full = Arc::new(AtomicU32::new(self.throttle.allowance));
            self.throttle.familiar.insert(from, full);
        }
    }
}

/// The client of the request that is being worked on.
fn client() -> Option<Key> {
    RequestContext::with(|context| context.map(|context| Key::address(context.client_address)))
}
