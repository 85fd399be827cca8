//! Checks that SQLite's file is there and intact, and accepts a write.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::oneshot;

use crate::database::Db;
use crate::error::DbError;
use crate::fault::DiscardReason;
use crate::probe::ProbeError;
use crate::{query, warm};

/// Time between two writes of the check while no session fails. Each write costs a sync of the
/// disk. After a failure every run of the check writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);

impl Db<sqlx::Sqlite> {
    /// Checks that the sessions have this file open, that no damage is known, and that the file can
    /// be written.
    pub(crate) async fn probe_file(&self) -> Result<(), ProbeError> {
        self.check_file_identity().await?;
        if self.warm.renewal.is_corrupt() && !self.integrity_is_confirmed() {
            return Err(ProbeError::Corrupt);
        }
        let failures = self.warm.renewal.failures();
        let is_recent = self
            .file
            .lock()
            .written
            .is_some_and(|(at, before)| before == failures && at.elapsed() < WRITE_INTERVAL);
        if is_recent {
            return query::run(self.read_header()).await;
        }
        let written = query::run(self.write_header()).await;
        self.file.lock().written = written.is_ok().then(|| (Instant::now(), failures));
        written
    }

    /// Closes the sessions of a file that was removed or replaced, because their writes would be
    /// lost.
    async fn check_file_identity(&self) -> Result<(), ProbeError> {
        let options = self.warm.pool.connect_options();
        let path = options.get_filename().to_owned();
        if is_in_memory(&path) {
            return Ok(());
        }
        let found = tokio::task::spawn_blocking(move || identity(path)).await;
        let found = found.ok().flatten();
        let changed = {
            let mut state = self.file.lock();
            let before = state.identity;
            if found.is_some() {
                state.identity = found;
            }
            before.is_some() && before != found
        };
        if changed {
            self.warm.renew(DiscardReason::Storage);
            self.file.lock().written = None;
            self.warm.renewal.mark_intact();
        }
        found.map(|_| ()).ok_or(ProbeError::Missing)
    }

    async fn read_header(&self) -> Result<(), ProbeError> {
        let mut connection = self.acquire().await?;
        let query = sqlx::query("SELECT count(*) FROM sqlite_master");
        query
            .execute(&mut *connection)
            .await
            .map_err(DbError::from)?;
        Ok(())
    }

    /// Writes the file's user version back unchanged. This costs one page of the log and a sync.
    async fn write_header(&self) -> Result<(), ProbeError> {
        let mut transaction = self.begin().await?;
        let written = async {
            let version: i32 = sqlx::query_scalar("PRAGMA user_version")
                .fetch_one(&mut *transaction)
                .await?;
            let write = format!("PRAGMA user_version = {version}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(write))
                .execute(&mut *transaction)
                .await
        };
        written.await.map_err(DbError::from)?;
        transaction.commit().await.map_err(DbError::from)?;
        Ok(())
    }

    /// Returns true if damaged data is intact again. The check may take long, so a separate
    /// task runs it, one at a time. The check reads its result.
    fn integrity_is_confirmed(&self) -> bool {
        let mut state = self.file.lock();
        let Some(check) = &mut state.integrity_check else {
            let (sender, receiver) = oneshot::channel();
            let check = self.integrity_check();
            warm::background(async move {
                // The receiver is gone when the process ends.
                let _unreceived = sender.send(check.await);
            });
            state.integrity_check = Some(receiver);
            return false;
        };
        let is_intact = match check.try_recv() {
            Ok(is_intact) => is_intact,
            Err(oneshot::error::TryRecvError::Empty) => return false,
            Err(oneshot::error::TryRecvError::Closed) => false,
        };
        state.integrity_check = None;
        if is_intact {
            self.warm.renewal.mark_intact();
        }
        is_intact
    }

    /// Runs `PRAGMA quick_check` on a separate connection.
    fn integrity_check(&self) -> impl Future<Output = bool> + use<> {
        let options = self.warm.pool.connect_options();
        async move {
            let Ok(mut connection) = options.connect().await else {
                return false;
            };
            let check = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)");
            let answer = check.fetch_one(&mut connection).await;
            let _closed = connection.close().await;
            answer.is_ok_and(|answer| answer == "ok")
        }
    }
}

fn identity(path: PathBuf) -> Option<(u64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Matches the driver's name of a database without a file.
fn is_in_memory(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .starts_with(b"file:sqlx-in-memory")
}
