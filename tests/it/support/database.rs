//! Databases for tests.

use std::path::PathBuf;

use sqlx::{Connection as _, Executor as _};

/// The database behind a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A new database. Removed when dropped.
pub struct TestDatabase {
    url: String,
    /// Keeps the folder of an SQLite database.
    _folder: Option<tempfile::TempDir>,
    /// Server and name of a Postgres database, to drop it.
    drop: Option<(String, String)>,
}

impl TestDatabase {
    pub async fn create(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let path: PathBuf = folder.path().join("test.db");
                Self {
                    url: format!("sqlite://{}", path.display()),
                    _folder: Some(folder),
                    drop: None,
                }
            }
            Backend::Postgres => {
                let server = std::env::var("TEST_DATABASE_URL")
                    .expect("TEST_DATABASE_URL names a Postgres server; `make test` starts one");
                let name = format!("test_{}", uuid::Uuid::now_v7().simple());
                admin(&server, &format!("CREATE DATABASE {name}")).await;
                let (base, parameters) = match server.split_once('?') {
                    Some((base, parameters)) => (base, format!("?{parameters}")),
                    None => (server.as_str(), String::new()),
                };
                let root = base.rsplit_once('/').map_or(base, |(root, _)| root);
                let url = format!("{root}/{name}{parameters}");
                Self {
                    url,
                    _folder: None,
                    drop: Some((server, name)),
                }
            }
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some((server, name)) = self.drop.take() else {
            return;
        };
        // `drop` is synchronous and may run inside of a runtime, so a thread with its own runtime
        // is needed.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(admin(
                &server,
                &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            ));
        });
        let _panicked = dropped.join();
    }
}

async fn admin(server: &str, statement: &str) {
    let mut connection = sqlx::PgConnection::connect(server)
        .await
        .expect("the Postgres server answers");
    connection
        .execute(sqlx::AssertSqlSafe(statement.to_owned()))
        .await
        .expect("the statement runs");
}
