//! The refusals of the ledger as problems, and the problems of each operation.

use std::collections::BTreeMap;

use http_server::description::describe;
use http_server::{authenticate, problem};
use request::Problem;
use request::problem::Code;
use utoipa::openapi::{RefOr, Response};

use crate::app::ledger::domain::Refusal;
use crate::app::ledger::store::{OpenError, StillHoldsMoney, TransferError};

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
        /// The `Idempotency-Key` was used with another request before.
        pub IDEMPOTENCY_MISMATCH = 422, "The idempotency key belongs to another request";
        /// A request with this `Idempotency-Key` is running. `Retry-After` gives the time to wait.
        pub IDEMPOTENCY_IN_PROGRESS = 409, "A request with this idempotency key is running";
    }
}

/// Seconds after which a request with the same key has most likely ended.
const IN_PROGRESS_RETRY: u64 = 1;

/// The answer for objects that do not exist and for objects of other users.
pub(super) fn not_found(detail: &'static str) -> Problem {
    Problem::new(problem::codes::NOT_FOUND, detail)
}

impl From<StillHoldsMoney> for Problem {
    fn from(StillHoldsMoney: StillHoldsMoney) -> Self {
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
            TransferError::Mismatch => Self::new(
                codes::IDEMPOTENCY_MISMATCH,
                "This key was used for another request; choose a new one for each.",
            ),
            TransferError::InProgress => Self::new(
                codes::IDEMPOTENCY_IN_PROGRESS,
                "A request with this key is being carried out; ask again for its answer.",
            )
            .retry_after(IN_PROGRESS_RETRY),
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

/// Problems of every operation here.
const ANY: &[&Code] = &[
    problem::codes::INVALID_HEADER,
    problem::codes::UNAUTHENTICATED,
    problem::codes::RATE_LIMITED,
    problem::codes::INTERNAL,
    problem::codes::OVERLOADED,
    problem::codes::DATABASE_UNAVAILABLE,
    problem::codes::DEADLINE_EXCEEDED,
];
/// Problems of operations on one object.
const OBJECT: &[&Code] = &[problem::codes::INVALID_PATH, problem::codes::NOT_FOUND];
/// Problems of operations on a page.
const PAGE: &[&Code] = &[
    problem::codes::INVALID_QUERY,
    problem::codes::INVALID_CURSOR,
];
/// Problems of operations with a body.
const BODY: &[&Code] = &[
    problem::codes::INVALID_JSON,
    problem::codes::UNKNOWN_FIELD,
    problem::codes::INVALID_BODY,
    problem::codes::BODY_TIMEOUT,
    problem::codes::BODY_TOO_LARGE,
    problem::codes::UNSUPPORTED_MEDIA_TYPE,
    problem::codes::VALIDATION_FAILED,
];
/// Problems of transfers and deposits.
const POSTING: &[&Code] = &[
    problem::codes::NOT_FOUND,
    codes::ACCOUNT_CLOSED,
    codes::BALANCE_LIMIT_EXCEEDED,
    codes::IDEMPOTENCY_MISMATCH,
    codes::IDEMPOTENCY_IN_PROGRESS,
];

macro_rules! problems_of {
    ($($(#[doc = $doc:literal])+ $name:ident = [$($group:expr),+];)*) => { $(
        $(#[doc = $doc])+
        pub(super) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                describe(&[$($group),+])
            }
        }
    )* };
}

problems_of! {
    /// Reading one object.
    Reading = [ANY, OBJECT];
    /// Reading a page.
    Listing = [ANY, PAGE];
    /// Opening an account.
    Opening = [ANY, BODY];
    /// A deposit.
    Depositing = [ANY, BODY, &[problem::codes::FORBIDDEN], POSTING];
    /// A transfer.
    Transferring = [ANY, BODY, POSTING, &[
        codes::SAME_ACCOUNT,
        codes::CURRENCY_MISMATCH,
        codes::INSUFFICIENT_FUNDS,
    ]];
}
