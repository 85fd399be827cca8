//! The pool of a backend, and the path of every query through it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;
use telemetry::exposition::{Exemplar, Exemplars};
use telemetry::metrics::QUICK;
use telemetry::traces;
use tracing::Instrument as _;

use crate::config::{Backend, Config};
use crate::connect::{self, Server};
use crate::error::DbError;
#[cfg(feature = "sqlite")]
use crate::file_state::FileState;
use crate::lease::{Lease, Transaction};
use crate::metrics::DbMetrics;
use crate::query;
use crate::schema::Schema;
use crate::session_renewal::SessionRenewal;
use crate::warm::WarmPool;
#[cfg(feature = "sqlite")]
use crate::writer::{self, WriteTransaction};

/// The pool of the backend that the configuration names.
#[derive(Clone)]
pub enum Database {
    /// Embedded.
    #[cfg(feature = "sqlite")]
    Sqlite(Db<sqlx::Sqlite>),
    /// A server.
    #[cfg(feature = "postgres")]
    Postgres(Db<sqlx::Postgres>),
}

/// A pool with its deadlines and metrics. Stores hold it.
pub struct Db<B: sqlx::Database> {
    pub(crate) warm: Arc<WarmPool<B>>,
    pub(crate) schema: &'static Schema,
    /// Client-side limit of a store method: acquire timeout plus statement timeout.
    deadline: Duration,
    metrics: Arc<DbMetrics>,
    pub(crate) server: Arc<Server>,
    exemplars: Exemplars,
    #[cfg(feature = "sqlite")]
    writers: writer::Queue,
    #[cfg(feature = "sqlite")]
    pub(crate) file: Arc<FileState>,
}

impl<B: sqlx::Database> Clone for Db<B> {
    fn clone(&self) -> Self {
        Self {
            warm: Arc::clone(&self.warm),
            schema: self.schema,
            deadline: self.deadline,
            metrics: Arc::clone(&self.metrics),
            server: Arc::clone(&self.server),
            exemplars: self.exemplars.clone(),
            #[cfg(feature = "sqlite")]
            writers: Arc::clone(&self.writers),
            #[cfg(feature = "sqlite")]
            file: Arc::clone(&self.file),
        }
    }
}

/// Shorter waits are not logged: taking a free connection takes microseconds.
const MIN_LOGGED_WAIT: Duration = Duration::from_millis(1);

impl<B: sqlx::Database> Db<B> {
    /// Takes a connection. The wait is measured, and a wait that times out is counted.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when no connection was free in time.
    pub async fn acquire(&self) -> Result<Lease<B>, DbError> {
        let began = Instant::now();
        let acquired = Lease::acquire(&self.warm).await;
        self.record_wait(began);
        acquired.map_err(|error| self.acquire_error(error))
    }

    fn record_duration(&self, query_type: &'static str, seconds: f64, trace_id: Option<TraceId>) {
        let duration = &self.metrics.query_duration;
        duration.with_label_values(&[query_type]).observe(seconds);
        if let Some(trace_id) = trace_id {
            let labels = [("query_type", query_type)];
            let slots = self
                .exemplars
                .slots("db_query_duration_seconds", &labels, QUICK);
            slots.put(Exemplar::now(trace_id, seconds));
        }
    }

    /// Records a wait for a connection, or on SQLite for the turn to write.
    fn record_wait(&self, began: Instant) {
        let waited = began.elapsed();
        self.metrics.pool_wait.observe(waited.as_secs_f64());
        if waited >= MIN_LOGGED_WAIT {
            tracing::debug!(?waited, "waited for a database connection");
        }
    }

    fn acquire_error(&self, error: sqlx::Error) -> DbError {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            self.metrics.pool_timeouts.inc();
            tracing::debug!("the wait for a database connection exceeded its time limit");
        }
        DbError::from(error)
    }

    /// Runs one method of a store. It is measured as `query_type` and has a client span if the
    /// request is sampled. The deadline also holds when the server is frozen.
    ///
    /// # Errors
    /// The errors of `work`, and [`DbError::Unavailable`] beyond the deadline.
    pub async fn run<T, E>(
        &self,
        query_type: &'static str,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E>
    where
        E: From<DbError>,
    {
        self.observe(query_type, query::run(work)).await
    }

    /// Measures the work, gives it a span and limits it.
    async fn observe<T, E>(
        &self,
        query_type: &'static str,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E>
    where
        E: From<DbError>,
    {
        let began = Instant::now();
        let bounded = tokio::time::timeout(self.deadline, work);
        // No span is created for an unsampled request.
        let trace_id = traces::sampled();
        let result = if trace_id.is_some() {
            let span = tracing::info_span!(
                "query",
                otel.name = query_type,
                otel.kind = "client",
                otel.status_code = tracing::field::Empty,
                error.r#type = tracing::field::Empty,
                db.system.name = system_name(B::NAME),
                db.operation.name = query_type,
                db.namespace = self.server.namespace,
                server.address = self.server.address,
                server.port = self.server.port,
                db.response.status_code = tracing::field::Empty,
            );
            let ended = traces::SpanEnd(&span);
            let result = bounded.instrument(span.clone()).await;
            drop(ended);
            if result.is_err() {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", "timeout");
            }
            result
        } else {
            bounded.await
        };
        self.record_duration(query_type, began.elapsed().as_secs_f64(), trace_id);
        result.unwrap_or_else(|_| {
            tracing::debug!(query_type, "a query exceeded its time limit");
            let slow = std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "no result within database.acquire_timeout plus database.statement_timeout",
            );
            Err(DbError::Unavailable(sqlx::Error::Io(slow)).into())
        })
    }
}

/// `db.system.name` of the OpenTelemetry conventions.
fn system_name(driver: &'static str) -> &'static str {
    match driver {
        "SQLite" => "sqlite",
        "PostgreSQL" => "postgresql",
        other => other,
    }
}

#[cfg(feature = "sqlite")]
impl Db<sqlx::Sqlite> {
    /// Begins a transaction that holds the write lock from the start, so that its reads are still
    /// true when it writes.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when no connection or lock was free in time.
    pub async fn begin(&self) -> Result<WriteTransaction, DbError> {
        let began = Instant::now();
        let transaction = async {
            let bound = self.warm.pool.options().get_acquire_timeout();
            let permit = writer::permit(&self.writers, bound).await?;
            let lease = Lease::acquire(&self.warm).await?;
            let transaction = Transaction::begin(lease, "BEGIN IMMEDIATE").await?;
            Ok(WriteTransaction::new(transaction, permit))
        };
        let transaction = transaction.await;
        self.record_wait(began);
        transaction.map_err(|error| self.acquire_error(error))
    }

    /// Like [`Db::run`], with the signature that Postgres has. The work is run once, because only the
    /// service changes the schema of its file, before it serves.
    ///
    /// # Errors
    /// The errors of `work`, and [`DbError::Unavailable`] beyond the deadline.
    pub async fn transact<T, E, F>(
        &self,
        query_type: &'static str,
        work: impl Fn() -> F + Send + Sync,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<DbError> + Send,
        F: Future<Output = Result<T, E>> + Send,
    {
        self.run(query_type, work()).await
    }
}

#[cfg(feature = "postgres")]
impl Db<sqlx::Postgres> {
    /// Begins a transaction at `READ COMMITTED`. Writers lock the rows that they decide on.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when no connection was free in time.
    pub async fn begin(&self) -> Result<Transaction<sqlx::Postgres>, DbError> {
        Ok(Transaction::begin(self.acquire().await?, "BEGIN").await?)
    }

    /// Like [`Db::run`], for work that is one transaction or one statement. A schema change under a
    /// prepared statement fails the statement and its transaction. Nothing was written then, so the
    /// work is run once more on a new session.
    ///
    /// # Errors
    /// The errors of `work`, and [`DbError::Unavailable`] beyond the deadline.
    pub async fn transact<T, E, F>(
        &self,
        query_type: &'static str,
        work: impl Fn() -> F + Send + Sync,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<DbError> + Send,
        F: Future<Output = Result<T, E>> + Send,
    {
        self.observe(query_type, query::run_with_retry(work)).await
    }
}

impl Database {
    /// Creates a pool that connects on first use.
    ///
    /// # Errors
    /// When the URL cannot be read, or the folder of an SQLite file cannot be created.
    pub fn new(
        schema: &'static Schema,
        config: &Config,
        metrics: Arc<DbMetrics>,
        exemplars: Exemplars,
    ) -> anyhow::Result<Self> {
        metrics.max.set(i64::from(config.max_connections));
        let deadline = config.acquire_timeout + config.statement_timeout;
        let renewal = SessionRenewal::new(Arc::clone(&metrics));
        Ok(match config.url.backend() {
            #[cfg(feature = "sqlite")]
            Backend::Sqlite => Self::Sqlite(Db {
                warm: WarmPool::new(connect::sqlite(config, Arc::clone(&renewal))?, renewal),
                schema,
                deadline,
                metrics,
                server: Arc::default(),
                exemplars,
                #[cfg(feature = "sqlite")]
                writers: writer::Queue::default(),
                #[cfg(feature = "sqlite")]
                file: Arc::default(),
            }),
            #[cfg(feature = "postgres")]
            Backend::Postgres => {
                let pool = connect::postgres(schema.service, config, Arc::clone(&renewal))?;
                Self::Postgres(Db {
                    server: Arc::new(Server::of(&pool, config.pooler)),
                    warm: WarmPool::new(pool, renewal),
                    schema,
                    deadline,
                    metrics,
                    exemplars,
                    #[cfg(feature = "sqlite")]
                    writers: writer::Queue::default(),
                    #[cfg(feature = "sqlite")]
                    file: Arc::default(),
                })
            }
            #[allow(
                unreachable_patterns,
                reason = "it is reachable in builds for one database only"
            )]
            other => anyhow::bail!("this binary was built without support for {other:?}"),
        })
    }

    /// Updates the gauges of idle and used connections for a scrape.
    pub fn observe_pool(&self) {
        let (size, idle, metrics) = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => (db.warm.pool.size(), db.warm.idle(), &db.metrics),
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => (db.warm.pool.size(), db.warm.idle(), &db.metrics),
        };
        let idle = i64::try_from(idle).unwrap_or(i64::MAX);
        metrics.idle.set(idle);
        metrics.active.set((i64::from(size) - idle).max(0));
    }

    /// Creates the series of a store's methods with the value zero, so that no series appears for
    /// the first time when a worker runs.
    pub fn declare(&self, query_types: &[&'static str]) {
        let metrics = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => &db.metrics,
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => &db.metrics,
        };
        for query_type in query_types {
            metrics.query_duration.with_label_values(&[*query_type]);
        }
    }

    /// The service that uses this database, and its migrations.
    pub(crate) fn schema(&self) -> &'static Schema {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => db.schema,
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => db.schema,
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => db.warm.close().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(db) => db.warm.close().await,
        }
    }
}
