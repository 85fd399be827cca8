//! The ledger on SQLite, with one writer at a time. A transaction holds the write lock from its
//! start, so that its reads are still true when it writes.

mod key_locks;
mod transfer;

use async_trait::async_trait;
use db::{Db, DbError};
use identity::store::{ErasureError, ErasureHook, is_erased};
use request::idempotency::{Claim, KeyConflict};
use request::page::PageRequest;
use settings::clock::{SharedClock, to_micros};
use sqlx::{Sqlite, SqliteConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use self::key_locks::KeyLocks;
use self::transfer::{execute, replay, store_answer};
use super::rows::{AccountRow, TransferRow};
use super::{
    AccountNotEmpty, CLEANUP_BATCH, CLOSED_NAME, LedgerStore, OpenError, TransferError,
    TransferReceipt,
};
use crate::app::ledger::domain::{Account, NewAccount, Order, Source, Transfer};

/// The ledger's tables on SQLite.
#[derive(Clone)]
pub struct SqliteLedger {
    db: Db<Sqlite>,
    clock: SharedClock,
    key_locks: KeyLocks,
}

impl SqliteLedger {
    /// Creates the store on this database.
    #[must_use]
    pub fn new(db: Db<Sqlite>, clock: SharedClock) -> Self {
        Self {
            db,
            clock,
            key_locks: KeyLocks::default(),
        }
    }
}

impl SqliteLedger {
    /// Makes a transfer under the lock of its key.
    async fn make_transfer(
        &self,
        order: &Order,
        claim: Option<&Claim>,
    ) -> Result<TransferReceipt, TransferError> {
        let Some(claim) = claim else {
            return self.transact(order, None).await;
        };
        // Locked before the database, so that a second request with the key is answered at once
        // and does not wait for the first.
        if let Some(_lock) = self.key_locks.try_lock(claim) {
            return self.transact(order, Some(claim)).await;
        }
        // The request that holds the key may be a replay. Its answer is stored already.
        let mut connection = self.db.acquire().await?;
        let receipt = replay(&mut connection, claim, order.now).await?;
        receipt.ok_or_else(|| KeyConflict::InProgress.into())
    }

    async fn transact(
        &self,
        order: &Order,
        claim: Option<&Claim>,
    ) -> Result<TransferReceipt, TransferError> {
        let mut tx = self.db.begin().await?;
        if let Some(user) = requesting_user(order, claim)
            && is_erased(&mut tx, user).await?
        {
            return Err(TransferError::Erased);
        }
        if let Some(claim) = claim
            && let Some(receipt) = replay(&mut tx, claim, order.now).await?
        {
            return Ok(receipt);
        }
        let result = execute(&mut tx, order).await?;
        if let Some(claim) = claim {
            let answer = result.as_ref().map(|transfer| transfer.id);
            let answer = answer.map_err(|refusal| *refusal);
            store_answer(&mut tx, claim, answer, order.now).await?;
        }
        tx.commit().await.map_err(DbError::from)?;
        match result {
            Ok(transfer) => Ok(TransferReceipt {
                transfer,
                replayed: false,
            }),
            Err(refusal) => Err(TransferError::Refused {
                refusal,
                replayed: false,
            }),
        }
    }
}

/// The user who must not be erased. `None` for a deposit without a key, whose rows belong to the
/// owner of the account only.
fn requesting_user(order: &Order, claim: Option<&Claim>) -> Option<Uuid> {
    match (claim, order.source) {
        (Some(claim), _) => Some(claim.user),
        (None, Source::Own { owner, .. }) => Some(owner),
        (None, Source::System) => None,
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
                Ok(account.first_version())
            })
            .await
    }

    async fn get_account(&self, owner: Uuid, id: Uuid) -> Result<Option<Account>, DbError> {
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

    async fn list_accounts(&self, owner: Uuid, page: PageRequest) -> Result<Vec<Account>, DbError> {
        self.db
            .run("list_accounts", async {
                let mut connection = self.db.acquire().await?;
                sqlx::query_as!(
                    AccountRow,
                    r#"SELECT id AS "id: Uuid", currency, name, balance, version, created_at
                       FROM accounts WHERE owner_id = ?1 AND id < ?2
                       ORDER BY id DESC LIMIT ?3"#,
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
        let answer = self.db.run("transfer", async {
            match self.make_transfer(order, claim).await {
                Err(TransferError::Database(error)) => Err(error),
                // A refusal is an answer and not a failed query.
                answer => Ok(answer),
            }
        });
        answer.await?
    }

    async fn get_transfer(&self, user: Uuid, id: Uuid) -> Result<Option<Transfer>, DbError> {
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

    async fn list_transfers(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Vec<Transfer>, DbError> {
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
        self.db
            .run("remove_expired_idempotency_keys", async {
                let mut connection = self.db.acquire().await?;
                let done = sqlx::query!(
                    "DELETE FROM idempotency_keys WHERE rowid IN (
                         SELECT rowid FROM idempotency_keys WHERE expires_at <= ?1
                         ORDER BY expires_at LIMIT ?2)",
                    to_micros(now),
                    CLEANUP_BATCH,
                )
                .execute(&mut *connection)
                .await?;
                Ok(done.rows_affected())
            })
            .await
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
            return Err(ErasureError::Refused(AccountNotEmpty.into()));
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
