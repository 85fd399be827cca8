//! Deposits of administrators into the ledger.

use axum::extract::State;
use axum::response::IntoResponse;
use http::HeaderMap;
use http_server::authenticate::RequireAdmin;
use http_server::extract::Json;
use http_server::problem::ProblemResponse;
use request::Fields;
use serde::Deserialize;
use utoipa::ToSchema;

use super::idempotency_key;
use super::problems::Depositing;
use super::transfers::{TransferBody, created};
use crate::app::ledger::domain::{Amount, Reference, Source, parse_id};
use crate::app::ledger::{Asked, Ledger};

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
    security(("bearer" = [])),
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "Chosen by the client, new for each deposit: 1 to 255 visible ASCII characters",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        example = "8e03978e-40d5-43dd-bc93-6894a57f9324",
    )),
    request_body = NewDepositBody,
    responses(
        (status = 201, body = TransferBody, description = "The transfer", headers(
            ("Idempotency-Replayed" = String, description = "`true` when an earlier request with the key made it"),
        )),
        Depositing,
    )
)]
pub(super) async fn create(
    State(ledger): State<Ledger>,
    RequireAdmin(admin): RequireAdmin,
    headers: HeaderMap,
    Json(body): Json<NewDepositBody>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let key = idempotency_key(&headers)?;
    let mut fields = Fields::default();
    let to = fields.take("account", parse_id(&body.account));
    let amount = fields.take("amount", Amount::parse(body.amount));
    let reference = fields.take("reference", Reference::parse(&body.reference));
    let ((to_account, amount), reference) = fields.finish(to.zip(amount).zip(reference))?;
    let asked = Asked {
        source: Source::System,
        to_account,
        amount,
        reference,
    };
    Ok(created(ledger.transfer(admin.user, asked, key).await?))
}
