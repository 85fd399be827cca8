//! Bare ledger handlers: axum, sqlx's pool and the statements of the service. There is no
//! authentication, the owner is a header.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool, Row as _, SqlitePool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::servers::{address, runtime};

/// Connections of its pool, the default of the service.
const CONNECTIONS: u32 = 10;
const MAX_BALANCE: i64 = (1 << 53) - 1;

type Answer = Result<(StatusCode, Json<Value>), StatusCode>;

#[derive(serde::Deserialize)]
struct Order {
    from_account: Uuid,
    to_account: Uuid,
    amount: i64,
    reference: String,
}

pub fn serve() -> anyhow::Result<()> {
    let url = std::env::var("BENCH_DATABASE")?;
    runtime()?.block_on(async {
        let router = if url.starts_with("sqlite:") {
            let options = url
                .parse::<SqliteConnectOptions>()?
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let pool = SqlitePoolOptions::new()
                .max_connections(CONNECTIONS)
                .test_before_acquire(false);
            Router::new()
                .route("/api/v1/accounts/{id}", get(read_sqlite))
                .route("/api/v1/transfers", post(transfer_sqlite))
                .with_state(pool.connect_with(options).await?)
        } else {
            let pool = sqlx::postgres::PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .test_before_acquire(false);
            Router::new()
                .route("/api/v1/accounts/{id}", get(read_postgres))
                .route("/api/v1/transfers", post(transfer_postgres))
                .with_state(pool.connect(&url).await?)
        };
        let listener = tokio::net::TcpListener::bind(address()?).await?;
        axum::serve(listener, router).await?;
        Ok(())
    })
}

fn owner(headers: &HeaderMap) -> Result<Uuid, StatusCode> {
    let text = headers.get("x-owner").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok())
        .ok_or(StatusCode::UNAUTHORIZED)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to `map_err`")]
fn failed(error: sqlx::Error) -> StatusCode {
    eprintln!("error: {error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn read_sqlite(
    State(pool): State<SqlitePool>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
) -> Answer {
    let row = sqlx::query(
        "SELECT id, currency, name, balance, version, created_at
         FROM accounts WHERE id = ?1 AND owner_id = ?2",
    )
    .bind(id)
    .bind(owner(&headers)?)
    .fetch_optional(&pool)
    .await
    .map_err(failed)?
    .ok_or(StatusCode::NOT_FOUND)?;
    Ok((
        StatusCode::OK,
        Json(json!({
            "id": row.get::<Uuid, _>(0), "currency": row.get::<String, _>(1),
            "name": row.get::<String, _>(2), "balance": row.get::<i64, _>(3),
            "created_at": row.get::<i64, _>(5),
        })),
    ))
}

async fn read_postgres(
    State(pool): State<PgPool>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
) -> Answer {
    let row = sqlx::query(
        "SELECT id, currency, name, balance, version, created_at
         FROM accounts WHERE id = $1 AND owner_id = $2",
    )
    .bind(id)
    .bind(owner(&headers)?)
    .fetch_optional(&pool)
    .await
    .map_err(failed)?
    .ok_or(StatusCode::NOT_FOUND)?;
    Ok((
        StatusCode::OK,
        Json(json!({
            "id": row.get::<Uuid, _>(0), "currency": row.get::<String, _>(1),
            "name": row.get::<String, _>(2), "balance": row.get::<i64, _>(3),
            "created_at": row.get::<OffsetDateTime, _>(5).unix_timestamp(),
        })),
    ))
}

fn made(id: Uuid, order: &Order) -> (StatusCode, Json<Value>) {
    let body = json!({
        "id": id, "from_account": order.from_account, "to_account": order.to_account,
        "amount": order.amount, "currency": "EUR", "reference": order.reference,
    });
    (StatusCode::CREATED, Json(body))
}

async fn transfer_postgres(
    State(pool): State<PgPool>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Answer {
    let id = Uuid::now_v7();
    let outcome: String = sqlx::query_scalar(
        "SELECT outcome FROM ledger_transfer($1, $2, $3, $4, $5, $6, $7, $8, $9,
                                             NULL, NULL, NULL, NULL, NULL)",
    )
    .bind(id)
    .bind(order.from_account)
    .bind(owner(&headers)?)
    .bind(order.to_account)
    .bind(order.amount)
    .bind(&order.reference)
    .bind(OffsetDateTime::now_utc())
    .bind(MAX_BALANCE)
    .bind(Uuid::now_v7())
    .fetch_one(&pool)
    .await
    .map_err(failed)?;
    if outcome == "made" {
        Ok(made(id, &order))
    } else {
        Err(StatusCode::UNPROCESSABLE_ENTITY)
    }
}

async fn transfer_sqlite(
    State(pool): State<SqlitePool>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Answer {
    let owner = owner(&headers)?;
    let id = write(&pool, owner, &order).await.map_err(failed)?;
    let id = id.ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
    Ok(made(id, &order))
}

async fn write(pool: &SqlitePool, owner: Uuid, order: &Order) -> sqlx::Result<Option<Uuid>> {
    let mut connection = pool.acquire().await?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let erased = sqlx::query("SELECT 1 FROM users WHERE id = ?1 AND erased_at IS NOT NULL")
        .bind(owner)
        .fetch_optional(&mut *tx)
        .await?;
    let parties = sqlx::query(
        "SELECT id, owner_id, currency, balance, closed_at IS NOT NULL
         FROM accounts WHERE id IN (?1, ?2) ORDER BY id",
    )
    .bind(order.from_account)
    .bind(order.to_account)
    .fetch_all(&mut *tx)
    .await?;
    let find = |id: Uuid| parties.iter().find(|row| row.get::<Uuid, _>(0) == id);
    let (Some(from), Some(to), None) = (find(order.from_account), find(order.to_account), erased)
    else {
        return Ok(None);
    };
    let (has, had) = (from.get::<i64, _>(3), to.get::<i64, _>(3));
    if from.get::<Uuid, _>(1) != owner || has < order.amount || had > MAX_BALANCE - order.amount {
        return Ok(None);
    }
    sqlx::query(
        "UPDATE accounts SET version = version + 1,
             balance = CASE id WHEN ?1 THEN ?2 ELSE ?4 END
         WHERE id IN (?1, ?3)",
    )
    .bind(order.from_account)
    .bind(has - order.amount)
    .bind(order.to_account)
    .bind(had + order.amount)
    .execute(&mut *tx)
    .await?;
    let id = Uuid::now_v7();
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    sqlx::query(
        "INSERT INTO transfers (id, from_account, to_account, from_owner, to_owner,
                                amount, currency, reference, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(id)
    .bind(order.from_account)
    .bind(order.to_account)
    .bind(owner)
    .bind(to.get::<Uuid, _>(1))
    .bind(order.amount)
    .bind(from.get::<String, _>(2))
    .bind(&order.reference)
    .bind(i64::try_from(now).unwrap_or_default())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(id))
}
