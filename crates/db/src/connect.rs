//! Creation of the pools. Every option that matters is set explicitly.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
#[cfg(feature = "postgres")]
use crate::pooler::{self, Pooler};
use crate::session_renewal::{SessionAction, SessionRenewal};

fn pool_options<B: sqlx::Database>(config: &Config) -> sqlx::pool::PoolOptions<B> {
    sqlx::pool::PoolOptions::new()
        .max_connections(config.max_connections)
        .min_connections(config.min_connections)
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(config.idle_timeout)
        .max_lifetime(config.max_lifetime)
        // A ping before every use costs a round trip for each query. `postgres` pings selectively.
        .test_before_acquire(false)
}

/// A connection that has been idle for longer is pinged before its next use. In a busy pool no
/// connection is idle for so long. In a quiet pool the round trip does not matter, and no request
/// fails because the server was restarted.
pub(crate) const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// Time limit of that ping.
#[cfg(feature = "postgres")]
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// Creates the pool of SQLite. It uses WAL, so that readers do not wait for the writer, and
/// `synchronous=FULL`, so that a committed transaction survives a power cut.
///
/// # Errors
/// When the folder of the file cannot be created.
#[cfg(feature = "sqlite")]
pub(crate) fn sqlite(
    config: &Config,
    renewal: Arc<SessionRenewal>,
) -> anyhow::Result<sqlx::SqlitePool> {
    use anyhow::Context as _;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    let options = SqliteConnectOptions::from_str(config.url.expose())?
        // `reach` creates the file at the start. A file that is removed later must not be replaced
        // by an empty one.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(config.statement_timeout);
    let folder = options
        .get_filename()
        .parent()
        .filter(|path| !path.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let pool = pool_options(config).before_acquire(move |_, met| {
        let action = renewal.action_before_use(met.age, Duration::ZERO);
        if action == SessionAction::Close {
            renewal.count_discarded(renewal.reason());
        }
        Box::pin(std::future::ready(Ok(action != SessionAction::Close)))
    });
    Ok(pool.connect_lazy_with(options))
}

/// The server of the database, as the spans of queries name it. Empty for an embedded database.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) address: Option<String>,
    pub(crate) port: Option<u16>,
    /// Name of the database.
    pub(crate) namespace: Option<String>,
    /// The pooler in front of the server.
    #[cfg(feature = "postgres")]
    pub(crate) pooler: Pooler,
}

impl Server {
    /// The server that this pool connects to.
    #[cfg(feature = "postgres")]
    pub(crate) fn of(pool: &sqlx::PgPool, pooler: Pooler) -> Self {
        let options = pool.connect_options();
        let socket = options.get_socket();
        Self {
            address: Some(match socket {
                Some(path) => path.display().to_string(),
                None => options.get_host().to_owned(),
            }),
            port: socket.is_none().then(|| options.get_port()),
            namespace: options.get_database().map(str::to_owned),
            pooler,
        }
    }
}

/// Options of every connection to a Postgres server.
///
/// # Errors
/// When the URL cannot be read.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_options(
    service: &str,
    url: &str,
) -> Result<sqlx::postgres::PgConnectOptions, sqlx::Error> {
    let options = sqlx::postgres::PgConnectOptions::from_str(url)?;
    Ok(options
        .application_name(service)
        // Poolers reject this parameter. Since Postgres 12 floats are exact without it.
        .extra_float_digits(None))
}

/// Creates the pool of Postgres (14 or newer). The server also limits every statement.
///
/// # Errors
/// When the URL cannot be read.
#[cfg(feature = "postgres")]
pub(crate) fn postgres(
    service: &str,
    config: &Config,
    renewal: Arc<SessionRenewal>,
) -> anyhow::Result<sqlx::PgPool> {
    use sqlx::{Connection as _, Executor as _};
    let settings = pooler::SessionSettings::new(config.statement_timeout);
    let options = postgres_options(service, config.url.expose())?;
    let (options, statements) = match config.pooler {
        Pooler::None => (options.options(settings.options()), None),
        Pooler::Session => (options, Some(Arc::new(settings.statements()))),
        // Not set here: they would stay with a session that is shared. The role has them.
        Pooler::Transaction => (options, None),
    };
    let pool = pool_options(config).after_connect(move |connection: &mut sqlx::PgConnection, _| {
        let statements = statements.clone();
        Box::pin(async move {
            if let Some(statements) = statements {
                let set = sqlx::AssertSqlSafe(statements.as_str());
                connection.execute(sqlx::raw_sql(set)).await?;
            }
            Ok(())
        })
    });
    let pool = pool.before_acquire(move |connection: &mut sqlx::PgConnection, met| {
        let action = renewal.action_before_use(met.age, met.idle_for);
        if action == SessionAction::Close {
            renewal.count_discarded(renewal.reason());
        }
        Box::pin(async move {
            match action {
                SessionAction::Close => return Ok(false),
                SessionAction::Use if met.idle_for < PING_AFTER_IDLE => return Ok(true),
                SessionAction::Use | SessionAction::Ping => {}
            }
            match tokio::time::timeout(PING_TIMEOUT, connection.ping()).await {
                Ok(Ok(())) => Ok(true),
                // The connection is closed and the pool tries the next one.
                Ok(Err(_)) | Err(_) => Ok(false),
            }
        })
    });
    Ok(pool.connect_lazy_with(options))
}
