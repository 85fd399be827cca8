//! Transfers of the authenticated user.

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http_server::authenticate::Authorized;
use http_server::extract::{Json, Path, Query};
use http_server::idempotency::{IdempotencyKeyHeader, IdempotencyReplayed};
use http_server::page::{PageBody, PageQuery};
use http_server::problem::ProblemResponse;
use request::Fields;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::location;
use super::permissions;
use super::problems::{ListProblems, ReadProblems, TransferProblems, not_found};
use crate::app::ledger::domain::{Amount, Reference, Source, Transfer, parse_id};
use crate::app::ledger::store::TransferReceipt;
use crate::app::ledger::{Ledger, TransferRequest};

/// A new transfer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "from_account": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "to_account": "01936f0f-1c2d-7a4b-9e8f-0a1b2c3d4e5f",
    "amount": 1250,
    "reference": "Rent, November",
}))]
pub(super) struct NewTransferBody {
    /// An account of the user.
    #[schema(format = Uuid)]
    from_account: String,
    /// Any account of the same currency.
    #[schema(format = Uuid)]
    to_account: String,
    /// Minor units.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount: i64,
    /// Purpose of the transfer, visible to both sides. 140 characters at most, none of them control
    /// characters or controls of text direction.
    #[serde(default)]
    #[schema(max_length = 140)]
    reference: String,
}

/// A completed transfer. It never changes.
#[derive(Serialize, ToSchema)]
#[schema(as = Transfer, example = json!({
    "id": "01936f10-9a8b-7c6d-8e5f-4a3b2c1d0e9f",
    "from_account": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "to_account": "01936f0f-1c2d-7a4b-9e8f-0a1b2c3d4e5f",
    "amount": 1250,
    "currency": "EUR",
    "reference": "Rent, November",
    "created_at": "2026-11-21T09:00:00Z",
}))]
pub(super) struct TransferBody {
    /// UUIDv7.
    id: Uuid,
    /// The account that paid. For a deposit, the system account of the currency.
    from_account: Uuid,
    /// The account that was paid.
    to_account: Uuid,
    /// Minor units.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount: i64,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// Purpose of the transfer.
    reference: String,
    /// Time at which it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Transfer> for TransferBody {
    fn from(transfer: Transfer) -> Self {
        Self {
            id: transfer.id,
            from_account: transfer.from_account,
            to_account: transfer.to_account,
            amount: transfer.amount,
            currency: transfer.currency.as_str().to_owned(),
            reference: transfer.reference,
            created_at: transfer.created_at,
        }
    }
}

/// The answer 201. If an earlier request with the same key made the transfer, a header marks the
/// answer as replayed. Status and body equal those of the first answer.
pub(super) fn created(receipt: TransferReceipt) -> impl IntoResponse {
    (
        StatusCode::CREATED,
        IdempotencyReplayed(receipt.replayed),
        Json(TransferBody::from(receipt.transfer)),
    )
}

/// Moves money from an account of the user to any account of the same currency.
///
/// With an `Idempotency-Key` the transfer is made once, even if the request arrives several times.
/// For 24 hours the same key and body get the same answer, including final refusals. Answers that
/// are not final (validation, 409, 429, 5xx) are not stored.
#[utoipa::path(
    post,
    path = "/api/v1/transfers",
    operation_id = "createTransfer",
    tag = "transfers",
    security(("bearer" = []), ("api_key" = ["transfers:write"])),
    params(IdempotencyKeyHeader),
    request_body = NewTransferBody,
    responses(
        (status = 201, body = TransferBody, description = "The transfer", headers(
            ("Location" = String, description = "Path of the transfer"),
        )),
        TransferProblems,
    )
)]
pub(super) async fn create(
    State(ledger): State<Ledger>,
    principal: Authorized<permissions::MakeTransfers>,
    IdempotencyKeyHeader { key }: IdempotencyKeyHeader,
    Json(body): Json<NewTransferBody>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let from = fields.take("from_account", parse_id(&body.from_account));
    let to = fields.take("to_account", parse_id(&body.to_account));
    let amount = fields.take("amount", Amount::parse(body.amount));
    let reference = fields.take("reference", Reference::parse(&body.reference));
    let parsed = from.zip(to).zip(amount).zip(reference);
    let (((account, to_account), amount), reference) = fields.finish(parsed)?;
    let request = TransferRequest {
        source: Source::Own {
            account,
            owner: principal.user,
        },
        to_account,
        amount,
        reference,
    };
    let receipt = ledger.transfer(principal.user, request, key).await?;
    let location = location(&format!("/api/v1/transfers/{}", receipt.transfer.id));
    Ok((location, created(receipt)))
}

/// Transfers from and to accounts of the user, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/transfers",
    operation_id = "listTransfers",
    tag = "transfers",
    security(("bearer" = []), ("api_key" = ["transfers:read"])),
    params(PageQuery),
    responses(
        (status = 200, body = PageBody<TransferBody>, description = "A page of transfers"),
        ListProblems,
    )
)]
pub(super) async fn list(
    State(ledger): State<Ledger>,
    principal: Authorized<permissions::ReadTransfers>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<TransferBody>>, ProblemResponse> {
    let page = ledger
        .list_transfers(principal.user, query.parse()?)
        .await?;
    Ok(Json(page.into()))
}

/// One transfer from or to an account of the user.
#[utoipa::path(
    get,
    path = "/api/v1/transfers/{id}",
    operation_id = "getTransfer",
    tag = "transfers",
    security(("bearer" = []), ("api_key" = ["transfers:read"])),
    params(("id" = Uuid, Path, description = "The transfer")),
    responses((status = 200, body = TransferBody, description = "The transfer"), ReadProblems)
)]
pub(super) async fn read(
    State(ledger): State<Ledger>,
    principal: Authorized<permissions::ReadTransfers>,
    Path(id): Path<Uuid>,
) -> Result<Json<TransferBody>, ProblemResponse> {
    let transfer = ledger.get_transfer(principal.user, id).await?;
    let transfer =
        transfer.ok_or_else(|| not_found("There is no transfer of yours with this id."))?;
    Ok(Json(transfer.into()))
}
