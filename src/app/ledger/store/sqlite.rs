//! The ledger on SQLite, with one writer at a time. A transaction holds the write lock from its
//! start, so that its reads are still true when it writes.

mod running;
mod transfer;

use async_trait::async_trait;
use db::{Db, DbError};
use http_server::page::PageRequest;
use identity::store::{ErasureError, ErasureHook, is_erased};
use settings::clock::{SharedClock, from_micros, to_micros};
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;
use workers;

use self::running::Running;
use self::transfer::{TransferRow, decide, record, replayed};
use super::StillHoldsMoney;
use super::{
    CLOSED_NAME, EXPIRED_BATCH, LedgerStore, OpenError, Posted, TransferError, asking, currency,
};
use crate::app::ledger::domain::{Account, Claim, NewAccount, Order, Transfer};

/// The ledger's tables on SQLite.
#[derive(Clone)]
pub struct SqliteLedger {
    db: Db<Sqlite>,
    clock: SharedClock,
    running: Running,
}

impl SqliteLedger {
    /// Creates the store on this database.
    #[must_use]
    pub fn new(db: Db<Sqlite>, clock: SharedClock) -> Self {
        Self {
            db,
            clock,
            running: Running::default(),
        }
    }
}

impl SqliteLedger {
    async fn transact(
        &self,
        order: &Order,
        claim: Option<&Claim>,
    ) -> Result<Posted, TransferError> {
        // Entered before the write lock, so that a second request with the key is answered at once
        // and does not wait for the first.
        let running = claim.map(|claim| self.running.enter(claim));
        if let (Some(claim), Some(None)) = (claim, &running) {
            // The request that holds the key may be a replay. Its answer is stored already.
            let mut connection = self.db.acquire().await?;
            let posted = replayed(&mut connection, claim, order.now).await?;
            return posted.ok_or(TransferError::InProgress);
        }
        let mut tx = self.db.begin().await?;
        if let Some(user) = asking(order, claim)
            && is_erased(&mut tx, user).await?
        {
            return Err(TransferError::Erased);
        }
        if let Some(claim) = claim
            && let Some(posted) = replayed(&mut tx, claim, order.now).await?
        {
            return Ok(posted);
        }
        let decided = decide(&mut tx, order).await?;
        if let Some(claim) = claim {
            let answer = decided.as_ref().map(|transfer| transfer.id);
            record(
                &mut tx,
                claim,
                answer.map_err(|refusal| *refusal),
                order.now,
            )
            .await?;
        }
        tx.commit().await.map_err(DbError::from)?;
        decided
            .map(|transfer| Posted {
                transfer,
                replayed: false,
            })
            .map_err(|refusal| TransferError::Refused {
                refusal,
                replayed: false,
            })
    }
}

#[async_trait]
impl LedgerStore for SqliteLedger {
    async fn open_account(&self, account: &NewAccount) -> Result<Account, OpenError> {
        self.db
            .run("open_account", async {
                let mut tx = self.db.begin().await?;
                if is_erased(&mut tx, account.owner).await? {
                    return Err(OpenError::Erased);
                }
                sqlx::query!(
                    "INSERT INTO accounts (id, owner_id, currency, name, created_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    account.id,
                    account.owner,
                    account.currency.as_str(),
                    account.name.as_str(),
                    to_micros(account.now),
                )
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok(account.opened())
            })
            .await
    }

    async fn account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError> {
        self.db
            .run("get_account", async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    AccountRow,
                    r#"SELECT id AS "id: Uuid", currency, name, balance, version, created_at
                       FROM accounts WHERE id = ?1 AND owner_id = ?2"#,
                    id,
                    owner,
                )
                .fetch_optional(&mut *connection)
                .await?
                .map(Account::try_from)
                .transpose()
            })
            .await
    }

    async fn accounts(&self, owner: Uuid, page: PageRequest) -> Result<Vec<Account>, DbError> {
        self.db
            .run("list_accounts", async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    AccountRow,
                    r#"SELECT id AS "id: Uuid", currency, name, balance, version, created_at
                       FROM accounts WHERE owner_id = ?1 AND id < ?2
                       ORDER BY id DESC LIMIT ?3"#,
                    owner,
                    page.before.unwrap_or(Uuid::max()),
                    page.fetch(),
                )
                .fetch_all(&mut *connection)
                .await?
                .into_iter()
                .map(Account::try_from)
                .collect()
            })
            .await
    }

    async fn transfer(
        &self,
        order: &Order,
        claim: Option<&Claim>,
    ) -> Result<Posted, TransferError> {
        let answer = self.db.run("transfer", async {
            match self.transact(order, claim).await {
                Err(TransferError::Database(error)) => Err(error),
                // A refusal is an answer and not a failed query.
                answer => Ok(answer),
            }
        });
        answer.await?
    }

    async fn transfer_of(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError> {
        self.db
            .run("get_transfer", async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    TransferRow,
                    r#"SELECT id AS "id: Uuid", from_account AS "from_account: Uuid",
                              to_account AS "to_account: Uuid", amount, currency, reference, created_at
                       FROM transfers WHERE id = ?1 AND (from_owner = ?2 OR to_owner = ?2)"#,
                    id,
                    user,
                )
                .fetch_optional(&mut *connection)
                .await?
                .map(Transfer::try_from)
                .transpose()
            })
            .await
    }

    async fn transfers(&self, user: Uuid, page: PageRequest) -> Result<Vec<Transfer>, DbError> {
        self.db
            .run("list_transfers", async {
                let mut connection = self.db.acquire().await?;
                // Two scans of one index each. UNION drops the second copy of a transfer between
                // two accounts of the user.
                sqlx::query_as!(
                    TransferRow,
                    r#"SELECT id AS "id!: Uuid", from_account AS "from_account!: Uuid",
                              to_account AS "to_account!: Uuid", amount AS "amount!: i64",
                              currency AS "currency!", reference AS "reference!",
                              created_at AS "created_at!: i64"
                       FROM (
                           SELECT * FROM (SELECT * FROM transfers WHERE from_owner = ?1 AND id < ?2
                            ORDER BY id DESC LIMIT ?3)
                           UNION
                           SELECT * FROM (SELECT * FROM transfers WHERE to_owner = ?1 AND id < ?2
                            ORDER BY id DESC LIMIT ?3)
                       ) AS mine
                       ORDER BY id DESC LIMIT ?3"#,
                    user,
                    page.before.unwrap_or(Uuid::max()),
                    page.fetch(),
                )
                .fetch_all(&mut *connection)
                .await?
                .into_iter()
                .map(Transfer::try_from)
                .collect()
            })
            .await
    }

    async fn remove_expired_idempotency_keys(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        let mut removed = 0;
        loop {
            // The write lock is free for requests between two batches.
            let batch = self
                .db
                .run("remove_expired_idempotency_keys", async {
                    let mut connection = self.db.acquire().await?;
                    let done = sqlx::query!(
                        "DELETE FROM idempotency_keys WHERE rowid IN (
                             SELECT rowid FROM idempotency_keys WHERE expires_at <= ?1
                             ORDER BY expires_at LIMIT ?2)",
                        to_micros(now),
                        EXPIRED_BATCH,
                    )
                    .execute(&mut *connection)
                    .await?;
                    Ok::<_, DbError>(done.rows_affected())
                })
                .await?;
            removed += batch;
            if batch < EXPIRED_BATCH.unsigned_abs() || workers::stopping() {
                return Ok(removed);
            }
        }
    }
}

#[async_trait]
impl ErasureHook<Sqlite> for SqliteLedger {
    /// Closes the user's accounts, which must be empty. Because of the write lock, a concurrent
    /// transfer happens entirely before or entirely after.
    async fn erase(
        &self,
        connection: &mut SqliteConnection,
        user: Uuid,
    ) -> Result<(), ErasureError> {
        let balances =
            sqlx::query_scalar!("SELECT balance FROM accounts WHERE owner_id = ?1", user,)
                .fetch_all(&mut *connection)
                .await
                .map_err(DbError::from)?;
        if balances.iter().any(|balance| *balance != 0) {
            return Err(ErasureError::Refused(StillHoldsMoney.into()));
        }
        sqlx::query!(
            "UPDATE accounts SET closed_at = ?2, name = ?3, version = version + 1
             WHERE owner_id = ?1 AND closed_at IS NULL",
            user,
            to_micros(self.clock.now()),
            CLOSED_NAME,
        )
        .execute(&mut *connection)
        .await
        .map_err(DbError::from)?;
        // Keys contain text of the client.
        sqlx::query!("DELETE FROM idempotency_keys WHERE user_id = ?1", user)
            .execute(&mut *connection)
            .await
            .map_err(DbError::from)?;
        Ok(())
    }
}

struct AccountRow {
    id: Uuid,
    currency: String,
    name: String,
    balance: i64,
    version: i64,
    created_at: i64,
}

impl TryFrom<AccountRow> for Account {
    type Error = DbError;

    fn try_from(row: AccountRow) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id,
            currency: currency("accounts.currency", &row.currency)?,
            name: row.name,
            balance: row.balance,
            version: row.version,
            created_at: from_micros(row.created_at),
        })
    }
}
