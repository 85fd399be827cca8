//! The refusals of the ledger as problems, and the problems of each operation.

use http_server::description::groups::{
    ADMIN, ANY, AUTHENTICATED, BODY, IDEMPOTENCY_KEY, OBJECT, PAGE,
};
use http_server::{authenticate, problem};
use request::Problem;
use request::problem::Code;

use crate::app::ledger::domain::Refusal;
use crate::app::ledger::store::{AccountNotEmpty, OpenError, TransferError};

/// Problems of this slice.
pub mod codes {
    request::problem_codes! {
        /// Both accounts are the same.
        pub SAME_ACCOUNT = 422, "The accounts are the same";
        /// The owner of the account was erased, so the account accepts no transfers.
        pub ACCOUNT_CLOSED = 422, "The account is closed";
        /// The accounts have different currencies.
        pub CURRENCY_MISMATCH = 422, "The accounts have different currencies";
        /// The balance is below the amount.
        pub INSUFFICIENT_FUNDS = 422, "Not enough money";
        /// The balance would grow beyond 9007199254740991 minor units.
        pub BALANCE_LIMIT_EXCEEDED = 422, "The balance would grow beyond its limit";
        /// An account of the user still holds money.
        pub ACCOUNT_NOT_EMPTY = 409, "An account is not empty";
    }
}

/// The answer for objects that do not exist and for objects of other users.
pub(super) fn not_found(detail: &'static str) -> Problem {
    Problem::new(problem::codes::NOT_FOUND, detail)
}

impl From<AccountNotEmpty> for Problem {
    fn from(AccountNotEmpty: AccountNotEmpty) -> Self {
        Self::new(
            codes::ACCOUNT_NOT_EMPTY,
            "An account still holds money; empty it first.",
        )
    }
}

impl From<Refusal> for Problem {
    /// The text is always the same, so that a replayed refusal equals the first one.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownSource => not_found("There is no account of yours to pay from."),
            Refusal::UnknownTarget => not_found("There is no such account to pay to."),
            Refusal::SameAccount => Self::new(
                codes::SAME_ACCOUNT,
                "A transfer needs two different accounts.",
            ),
            Refusal::AccountClosed => {
                Self::new(codes::ACCOUNT_CLOSED, "One of the accounts is closed.")
            }
            Refusal::CurrencyMismatch => Self::new(
                codes::CURRENCY_MISMATCH,
                "Both accounts must have the same currency.",
            ),
            Refusal::InsufficientFunds => Self::new(
                codes::INSUFFICIENT_FUNDS,
                "The account to pay from holds less than the amount.",
            ),
            Refusal::BalanceLimitExceeded => Self::new(
                codes::BALANCE_LIMIT_EXCEEDED,
                "The account to pay to would hold more than an account can.",
            ),
        }
    }
}

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Refused { refusal, .. } => refusal.into(),
            TransferError::KeyConflict(conflict) => conflict.into(),
            // The token was valid when the request arrived.
            TransferError::Erased => authenticate::refused(),
            TransferError::Database(error) => error.into(),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Erased => authenticate::refused(),
            OpenError::Database(error) => error.into(),
        }
    }
}

/// Problems of transfers and deposits.
const TRANSFER: &[&Code] = &[
    problem::codes::NOT_FOUND,
    codes::ACCOUNT_CLOSED,
    codes::BALANCE_LIMIT_EXCEEDED,
];

http_server::problem_responses! {
    /// Problems of reading one object.
    pub(super) struct ReadProblems = [ANY, AUTHENTICATED, OBJECT];
    /// Problems of reading a page.
    pub(super) struct ListProblems = [ANY, AUTHENTICATED, PAGE];
    /// Problems of opening an account.
    pub(super) struct OpenAccountProblems = [ANY, AUTHENTICATED, BODY];
    /// Problems of a deposit.
    pub(super) struct DepositProblems =
        [ANY, AUTHENTICATED, ADMIN, BODY, TRANSFER, IDEMPOTENCY_KEY];
    /// Problems of a transfer.
    pub(super) struct TransferProblems = [ANY, AUTHENTICATED, BODY, TRANSFER, IDEMPOTENCY_KEY, &[
        codes::SAME_ACCOUNT,
        codes::CURRENCY_MISMATCH,
        codes::INSUFFICIENT_FUNDS,
    ]];
}
