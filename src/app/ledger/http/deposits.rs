//! Deposits of administrators into the ledger.

use axum::extract::State;
use axum::response::IntoResponse;
use http_server::authenticate::Authorized;
use http_server::extract::Json;
use http_server::idempotency::IdempotencyKeyHeader;
use http_server::problem::ProblemResponse;
use request::Fields;
use serde::Deserialize;
use utoipa::ToSchema;

use super::permissions;
use super::problems::DepositProblems;
use super::transfers::{TransferBody, created};
use crate::app::ledger::domain::{Amount, Reference, Source, parse_id};
use crate::app::ledger::{Ledger, TransferRequest};

/// A new deposit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "account": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "amount": 100_000,
    "reference": "Opening balance",
}))]
pub(super) struct NewDepositBody {
    /// Any account.
    #[schema(format = Uuid)]
    account: String,
    /// Minor units.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount: i64,
    /// Purpose of the deposit. 140 characters at most, none of them control characters or controls
    /// of text direction.
    #[serde(default)]
    #[schema(max_length = 140)]
    reference: String,
}

/// Deposits money. The deposit is a transfer from the system account of the currency. That account
/// goes below zero by the sum of all deposits, so that the balances of a currency always sum to
/// zero. `Idempotency-Key` works as for transfers.
#[utoipa::path(
    post,
    path = "/api/v1/deposits",
    operation_id = "createDeposit",
    tag = "deposits",
    security(("bearer" = ["admin"]), ("api_key" = ["deposits:write"])),
    params(IdempotencyKeyHeader),
    request_body = NewDepositBody,
    responses(
        (status = 201, body = TransferBody, description = "The transfer"),
        DepositProblems,
    )
)]
pub(super) async fn create(
    State(ledger): State<Ledger>,
    admin: Authorized<permissions::MakeDeposits>,
    IdempotencyKeyHeader { key }: IdempotencyKeyHeader,
    Json(body): Json<NewDepositBody>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let to = fields.take("account", parse_id(&body.account));
    let amount = fields.take("amount", Amount::parse(body.amount));
    let reference = fields.take("reference", Reference::parse(&body.reference));
    let ((to_account, amount), reference) = fields.finish(to.zip(amount).zip(reference))?;
    let request = TransferRequest {
        source: Source::System,
        to_account,
        amount,
        reference,
    };
    let receipt = ledger.transfer(admin.user, request, key).await?;
    Ok(created(receipt))
}
