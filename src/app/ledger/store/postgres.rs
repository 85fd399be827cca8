//! The ledger on Postgres. Transactions are read committed and lock rows in the order of ids, so
//! that transfers cannot deadlock.

mod account_permits;
mod transfer;

use async_trait::async_trait;
use db::{Db, DbError};
use identity::store::{ErasureError, ErasureHook};
use request::idempotency::Claim;
use request::page::PageRequest;
use settings::clock::SharedClock;
use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use self::account_permits::AccountSemaphores;
use super::rows::{AccountRow, TransferRow};
use super::{
    AccountNotEmpty, CLEANUP_BATCH, CLOSED_NAME, LedgerStore, OpenError, TransferError,
    TransferReceipt,
};
use crate::app::ledger::domain::{Account, NewAccount, Order, Transfer};

/// The ledger's tables on Postgres.
#[derive(Clone)]
pub struct PostgresLedger {
    db: Db<Postgres>,
    clock: SharedClock,
    semaphores: AccountSemaphores,
}

impl PostgresLedger {
    /// Creates the store on this database.
    #[must_use]
    pub fn new(db: Db<Postgres>, clock: SharedClock) -> Self {
        Self {
            db,
            clock,
            semaphores: AccountSemaphores::new(),
        }
    }
}

#[async_trait]
impl LedgerStore for PostgresLedger {
    async fn open_account(&self, account: &NewAccount) -> Result<Account, OpenError> {
        self.db
            .transact("open_account", || async {
                let mut connection = self.db.acquire().await?;
                let done = sqlx::query!(
                    "INSERT INTO accounts (id, owner_id, currency, name, created_at)
                     SELECT $1, $2, $3, $4, $5 WHERE NOT user_is_erased($2)",
                    account.id,
                    account.owner,
                    account.currency.as_str(),
                    account.name.as_str(),
                    account.now,
                )
                .execute(&mut *connection)
                .await?;
                if done.rows_affected() == 0 {
                    return Err(OpenError::Erased);
                }
                Ok(account.first_version())
            })
            .await
    }

    async fn get_account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError> {
        self.db
            .transact("get_account", || async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    AccountRow,
                    "SELECT id, currency, name, balance, version, created_at
                     FROM accounts WHERE id = $1 AND owner_id = $2",
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

    async fn list_accounts(&self, owner: Uuid, page: PageRequest) -> Result<Vec<Account>, DbError> {
        self.db
            .transact("list_accounts", || async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    AccountRow,
                    "SELECT id, currency, name, balance, version, created_at
                     FROM accounts WHERE owner_id = $1 AND id < $2
                     ORDER BY id DESC LIMIT $3",
                    owner,
                    page.after.unwrap_or(Uuid::max()),
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
    ) -> Result<TransferReceipt, TransferError> {
        let answer = self.db.transact("transfer", || async {
            let _permits = self.semaphores.acquire(order).await;
            let mut connection = self.db.acquire().await?;
            transfer::call(&mut connection, order, claim).await
        });
        answer.await?.into_result()
    }

    async fn get_transfer(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError> {
        self.db
            .transact("get_transfer", || async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    TransferRow,
                    "SELECT id, from_account, to_account, amount, currency, reference, created_at
                     FROM transfers WHERE id = $1 AND (from_owner = $2 OR to_owner = $2)",
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

    async fn list_transfers(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Vec<Transfer>, DbError> {
        self.db
            .transact("list_transfers", || async {
                let mut connection = self.db.acquire().await?;
                // Two scans of one index each. UNION drops the second copy of a transfer between
                // two accounts of the user.
                sqlx::query_as!(
                    TransferRow,
                    r#"SELECT id AS "id!", from_account AS "from_account!",
                              to_account AS "to_account!", amount AS "amount!",
                              currency AS "currency!", reference AS "reference!",
                              created_at AS "created_at!"
                       FROM (
                           (SELECT * FROM transfers WHERE from_owner = $1 AND id < $2
                            ORDER BY id DESC LIMIT $3)
                           UNION
                           (SELECT * FROM transfers WHERE to_owner = $1 AND id < $2
                            ORDER BY id DESC LIMIT $3)
                       ) AS mine
                       ORDER BY id DESC LIMIT $3"#,
                    user,
                    page.after.unwrap_or(Uuid::max()),
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

    async fn remove_expired_batch(&self, now: OffsetDateTime) -> Result<u64, DbError> {
        // With SKIP LOCKED, concurrent cleanups of replicas take different rows.
        self.db
            .transact("remove_expired_idempotency_keys", || async {
                let mut connection = self.db.acquire().await?;
                let done = sqlx::query!(
                    "DELETE FROM idempotency_keys WHERE (user_id, key) IN (
                         SELECT user_id, key FROM idempotency_keys WHERE expires_at <= $1
                         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
                    now,
                    i64::from(CLEANUP_BATCH),
                )
                .execute(&mut *connection)
                .await?;
                Ok(done.rows_affected())
            })
            .await
    }
}

#[async_trait]
impl ErasureHook<Postgres> for PostgresLedger {
    /// Closes the user's accounts, which must be empty. Because of the row locks, a concurrent
    /// transfer happens entirely before or entirely after.
    async fn erase(&self, connection: &mut PgConnection, user: Uuid) -> Result<(), ErasureError> {
        let balances = sqlx::query_scalar!(
            "SELECT balance FROM accounts WHERE owner_id = $1 ORDER BY id FOR UPDATE",
            user,
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(DbError::from)?;
        if balances.iter().any(|balance| *balance != 0) {
            return Err(ErasureError::Refused(AccountNotEmpty.into()));
        }
        sqlx::query!(
            "UPDATE accounts SET closed_at = $2, name = $3, version = version + 1
             WHERE owner_id = $1 AND closed_at IS NULL",
            user,
            self.clock.now(),
            CLOSED_NAME,
        )
        .execute(&mut *connection)
        .await
        .map_err(DbError::from)?;
        // Keys contain text of the client.
        sqlx::query!("DELETE FROM idempotency_keys WHERE user_id = $1", user)
            .execute(&mut *connection)
            .await
            .map_err(DbError::from)?;
        Ok(())
    }
}
