//! Accounts of the authenticated user.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_server::authenticate::Authorized;
use http_server::etag;
use http_server::etag::IfNoneMatch;
use http_server::extract::{Json, Path, Query};
use http_server::page::{PageBody, PageQuery};
use http_server::problem::ProblemResponse;
use request::Fields;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::location;
use super::permissions;
use super::problems::{ListProblems, OpenAccountProblems, ReadProblems, not_found};
use crate::app::ledger::Ledger;
use crate::app::ledger::domain::{Account, AccountName};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "currency": "EUR", "name": "Savings" }))]
pub(super) struct NewAccountBody {
    /// ISO 4217 code, one of the allowed currencies (`ledger.currencies`).
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// 1 to 100 characters, some of them visible, none of them control characters or
    /// controls of text direction.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// An account in the form that its owner sees.
#[derive(Serialize, ToSchema)]
#[schema(as = Account, example = json!({
    "id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
    "name": "Savings",
    "currency": "EUR",
    "balance": 1250,
    "created_at": "2026-11-21T09:00:00Z",
}))]
pub(super) struct AccountBody {
    /// UUIDv7.
    id: Uuid,
    /// Name, chosen by the owner.
    name: String,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// Minor units.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    balance: i64,
    /// Time at which it was opened.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Account> for AccountBody {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            name: account.name,
            currency: account.currency.as_str().to_owned(),
            balance: account.balance,
            created_at: account.created_at,
        }
    }
}

/// Opens an empty account.
#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    operation_id = "openAccount",
    tag = "accounts",
    security(("bearer" = []), ("api_key" = ["accounts:write"])),
    request_body = NewAccountBody,
    responses(
        (status = 201, body = AccountBody, description = "The account", headers(
            ("Location" = String, description = "Path of the account"),
            ("ETag" = String, description = "Version of the account"),
        )),
        OpenAccountProblems,
    )
)]
pub(super) async fn open(
    State(ledger): State<Ledger>,
    principal: Authorized<permissions::OpenAccounts>,
    Json(body): Json<NewAccountBody>,
) -> Result<impl IntoResponse, ProblemResponse> {
    let mut fields = Fields::default();
    let currency = fields.take("currency", ledger.currencies().parse(&body.currency));
    let name = fields.take("name", AccountName::parse(&body.name));
    let (currency, name) = fields.finish(currency.zip(name))?;
    let account = ledger.open_account(principal.user, currency, name).await?;
    let location = location(&format!("/api/v1/accounts/{}", account.id));
    let tag = [(header::ETAG, etag::tag(account.version))];
    let body = Json(AccountBody::from(account));
    Ok((StatusCode::CREATED, location, tag, body))
}

/// Accounts of the user, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    operation_id = "listAccounts",
    tag = "accounts",
    security(("bearer" = []), ("api_key" = ["accounts:read"])),
    params(PageQuery),
    responses(
        (status = 200, body = PageBody<AccountBody>, description = "A page of accounts"),
        ListProblems,
    )
)]
pub(super) async fn list(
    State(ledger): State<Ledger>,
    principal: Authorized<permissions::ReadAccounts>,
    Query(query): Query<PageQuery>,
) -> Result<Json<PageBody<AccountBody>>, ProblemResponse> {
    let page = ledger.list_accounts(principal.user, query.parse()?).await?;
    Ok(Json(page.into()))
}

/// One account of the user with its balance.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}",
    operation_id = "getAccount",
    tag = "accounts",
    security(("bearer" = []), ("api_key" = ["accounts:read"])),
    params(
        ("id" = Uuid, Path, description = "The account"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that are known already"),
    ),
    responses(
        (status = 200, body = AccountBody, description = "The account", headers(
            ("ETag" = String, description = "Version of the account; grows with every change"),
        )),
        (status = 304, description = "Not changed since an ETag in If-None-Match"),
        ReadProblems,
    )
)]
pub(super) async fn read(
    State(ledger): State<Ledger>,
    principal: Authorized<permissions::ReadAccounts>,
    Path(id): Path<Uuid>,
    if_none_match: IfNoneMatch,
) -> Result<Response, ProblemResponse> {
    let account = ledger.get_account(principal.user, id).await?;
    let account = account.ok_or_else(|| not_found("There is no account of yours with this id."))?;
    let tag = [(header::ETAG, etag::tag(account.version))];
    if if_none_match.names(account.version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(AccountBody::from(account))).into_response())
}
