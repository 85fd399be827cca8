//! A database URL with a marked password.

use sqlx::{Connection as _, Executor as _};

use crate::support::TestDatabase;

/// Runs a statement on the database of the service.
pub async fn execute(database: &TestDatabase, statement: &str) {
    let url = database.url();
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        connection.execute(statement).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        connection.execute(statement).await.unwrap();
    }
}

/// A database role with a marked password. Removed when dropped.
pub struct Role {
    name: String,
    database: std::sync::Arc<TestDatabase>,
}

impl Role {
    pub async fn create(database: &std::sync::Arc<TestDatabase>) -> Self {
        let name = format!("role_{}", uuid::Uuid::now_v7().simple());
        let statement = format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'canary-database'");
        execute(database, &statement).await;
        let database = std::sync::Arc::clone(database);
        Self { name, database }
    }

    /// The database URL with the credentials of this role.
    pub fn url(&self, password: &str) -> String {
        let (scheme, rest) = self.database.url().split_once("://").unwrap();
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        format!("{scheme}://{}:{password}@{rest}", self.name)
    }

    pub async fn remove(self) {
        execute(
            &self.database,
            &format!("REASSIGN OWNED BY {} TO CURRENT_USER", self.name),
        )
        .await;
        execute(&self.database, &format!("DROP ROLE {}", self.name)).await;
    }
}

/// A URL of the same database that cannot work: a role without access, or a file below another
/// file.
pub fn wrong(url: &str) -> String {
    if url.starts_with("sqlite") {
        let file = url.split_once('?').map_or(url, |(file, _)| file);
        format!("{file}/none.db")
    } else {
        url.replace("canary-database", "canary-wrong")
    }
}
