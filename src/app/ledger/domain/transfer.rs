//! The rules of transfers, applied to two locked accounts.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Amount, Currency, MAX_BALANCE, Reference};

/// A completed transfer. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// UUIDv7.
    pub id: Uuid,
    /// The account that pays.
    pub from_account: Uuid,
    /// The account that is paid.
    pub to_account: Uuid,
    /// Minor units.
    pub amount: i64,
    /// Currency of both accounts.
    pub currency: Currency,
    /// Purpose of the transfer.
    pub reference: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// The payer of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An account of the requesting user.
    Own {
        /// The account.
        account: Uuid,
        /// The user.
        owner: Uuid,
    },
    /// The system account of the target's currency: a deposit.
    System,
}

/// An order to make a transfer.
#[derive(Debug, Clone)]
pub struct Order {
    /// The id that the transfer will have.
    pub id: Uuid,
    /// The payer.
    pub source: Source,
    /// The account that is paid.
    pub to_account: Uuid,
    /// Amount of the transfer.
    pub amount: Amount,
    /// Purpose of the transfer.
    pub reference: Reference,
    /// Time of the request.
    pub now: OffsetDateTime,
}

impl Order {
    /// The transfer that completes the order. `from` is the account that paid.
    #[must_use]
    pub fn completed(&self, from: &LockedAccount) -> Transfer {
        Transfer {
            id: self.id,
            from_account: from.id,
            to_account: self.to_account,
            amount: self.amount.get(),
            currency: from.currency,
            reference: self.reference.as_str().to_owned(),
            created_at: self.now,
        }
    }
}

/// A locked account, in its state before a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedAccount {
    /// The account.
    pub id: Uuid,
    /// None for a system account.
    pub owner: Option<Uuid>,
    /// Its currency.
    pub currency: Currency,
    /// Balance before the transfer.
    pub balance: i64,
    /// True if its owner was erased.
    pub closed: bool,
}

/// The balances after a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Balance of the account that pays.
    pub from_balance: i64,
    /// Balance of the account that is paid.
    pub to_balance: i64,
    /// Owner of the account that pays. A system account has none.
    pub from_owner: Option<Uuid>,
    /// Owner of the account that is paid.
    pub to_owner: Uuid,
}

/// The reason why a transfer is not made. The answer is final, so the same key replays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The account that pays does not exist or belongs to another user.
    #[error("the account to pay from does not exist or belongs to another user")]
    UnknownSource,
    /// The account that is paid does not exist or is a system account.
    #[error("the account to pay to does not exist or is a system account")]
    UnknownTarget,
    /// Both accounts are the same.
    #[error("both accounts are the same")]
    SameAccount,
    /// One of the accounts is closed.
    #[error("one of the accounts is closed")]
    AccountClosed,
    /// The accounts have different currencies.
    #[error("the accounts have different currencies")]
    CurrencyMismatch,
    /// The balance is below the amount.
    #[error("the balance is below the amount")]
    InsufficientFunds,
    /// The balance would grow beyond [`MAX_BALANCE`].
    #[error("the balance would exceed its limit")]
    BalanceLimitExceeded,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 7] = [
        Self::UnknownSource,
        Self::UnknownTarget,
        Self::SameAccount,
        Self::AccountClosed,
        Self::CurrencyMismatch,
        Self::InsufficientFunds,
        Self::BalanceLimitExceeded,
    ];

    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::UnknownTarget => "unknown_target",
            Self::SameAccount => "same_account",
            Self::AccountClosed => "account_closed",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::InsufficientFunds => "insufficient_funds",
            Self::BalanceLimitExceeded => "balance_limit_exceeded",
        }
    }

    /// Reads [`Refusal::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|refusal| refusal.as_str() == text)
    }
}

/// Decides on a transfer. `from` and `to` are the accounts of the order, if they exist. For a
/// deposit `from` is the system account.
///
/// # Errors
/// The reason why the transfer is not made. Nothing changes then.
pub fn post(
    order: &Order,
    from: Option<&LockedAccount>,
    to: Option<&LockedAccount>,
) -> Result<Posting, Refusal> {
    let from = from.ok_or(match order.source {
        Source::Own { .. } => Refusal::UnknownSource,
        // The system account is found through the target's currency.
        Source::System => Refusal::UnknownTarget,
    })?;
    // The answer does not reveal accounts of other users.
    if let Source::Own { owner, .. } = order.source
        && from.owner != Some(owner)
    {
        return Err(Refusal::UnknownSource);
    }
    let to = to.ok_or(Refusal::UnknownTarget)?;
    // System accounts cannot be paid. Only deposits change their balance.
    let to_owner = to.owner.ok_or(Refusal::UnknownTarget)?;
    if from.id == to.id {
        return Err(Refusal::SameAccount);
    }
    if from.closed || to.closed {
        return Err(Refusal::AccountClosed);
    }
    if from.currency != to.currency {
        return Err(Refusal::CurrencyMismatch);
    }
    let amount = order.amount.get();
    let from_balance = from
        .balance
        .checked_sub(amount)
        .ok_or(Refusal::BalanceLimitExceeded)?;
    if from.owner.is_some() && from_balance < 0 {
        return Err(Refusal::InsufficientFunds);
    }
    let to_balance = to
        .balance
        .checked_add(amount)
        .filter(|balance| *balance <= MAX_BALANCE)
        .ok_or(Refusal::BalanceLimitExceeded)?;
    Ok(Posting {
        from_balance,
        to_balance,
        from_owner: from.owner,
        to_owner,
    })
}

#[cfg(test)]
mod tests {
    use super::super::MAX_AMOUNT;
    use super::*;

    const OWNER: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn account(id: u128, owner: Option<Uuid>, balance: i64) -> LockedAccount {
        LockedAccount {
            id: Uuid::from_u128(id),
            owner,
            currency: Currency::parse("EUR").unwrap(),
            balance,
            closed: false,
        }
    }

    fn order(source: Source, amount: i64) -> Order {
        Order {
            id: Uuid::from_u128(99),
            source,
            to_account: Uuid::from_u128(11),
            amount: Amount::parse(amount).unwrap(),
            reference: Reference::parse("").unwrap(),
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn payment(amount: i64) -> Order {
        let account = Uuid::from_u128(10);
        order(
            Source::Own {
                account,
                owner: OWNER,
            },
            amount,
        )
    }

    #[test]
    fn what_one_account_gives_the_other_gets() {
        let (from, to) = (account(10, Some(OWNER), 100), account(11, Some(OTHER), 5));
        let posting = post(&payment(100), Some(&from), Some(&to)).unwrap();
        assert_eq!((posting.from_balance, posting.to_balance), (0, 105));
    }

    #[test]
    fn every_refusal_has_its_case() {
        let from = account(10, Some(OWNER), 100);
        let to = account(11, Some(OTHER), 5);
        let decide = |order: &Order, from: Option<LockedAccount>, to: Option<LockedAccount>| {
            post(order, from.as_ref(), to.as_ref()).unwrap_err()
        };
        let fifty = payment(50);
        let foreign = LockedAccount {
            owner: Some(OTHER),
            ..from
        };
        let system = LockedAccount { owner: None, ..to };
        let closed = LockedAccount { closed: true, ..to };
        let dollars = LockedAccount {
            currency: Currency::parse("USD").unwrap(),
            ..to
        };
        let full = LockedAccount {
            balance: MAX_BALANCE - 49,
            ..to
        };
        let cases = [
            (Refusal::UnknownSource, decide(&fifty, None, Some(to))),
            (
                Refusal::UnknownSource,
                decide(&fifty, Some(foreign), Some(to)),
            ),
            (Refusal::UnknownTarget, decide(&fifty, Some(from), None)),
            (
                Refusal::UnknownTarget,
                decide(&fifty, Some(from), Some(system)),
            ),
            (Refusal::SameAccount, decide(&fifty, Some(from), Some(from))),
            (
                Refusal::AccountClosed,
                decide(&fifty, Some(from), Some(closed)),
            ),
            (
                Refusal::CurrencyMismatch,
                decide(&fifty, Some(from), Some(dollars)),
            ),
            (
                Refusal::InsufficientFunds,
                decide(&payment(101), Some(from), Some(to)),
            ),
            (
                Refusal::BalanceLimitExceeded,
                decide(&fifty, Some(from), Some(full)),
            ),
        ];
        for (expected, got) in cases {
            assert_eq!(expected, got);
        }
        assert!(
            Refusal::ALL
                .iter()
                .all(|r| Refusal::parse(r.as_str()) == Some(*r))
        );
    }

    #[test]
    fn the_system_account_goes_below_zero_but_never_wraps() {
        let to = account(11, Some(OTHER), 0);
        let deposit = order(Source::System, MAX_AMOUNT);
        let posting = post(&deposit, Some(&account(9, None, 0)), Some(&to)).unwrap();
        assert_eq!(posting.from_balance, -MAX_AMOUNT);
        let lowest = account(9, None, i64::MIN + 1);
        let refused = post(&deposit, Some(&lowest), Some(&to)).unwrap_err();
        assert_eq!(refused, Refusal::BalanceLimitExceeded);
    }
}
