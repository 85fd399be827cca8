//! SQL access to the service's database.

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::support::{Backend, Service};

/// Queries one value.
pub async fn value<T>(backend: Backend, service: &Service, query: &'static str) -> T
where
    T: Send + Unpin,
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let url = service.database.url();
    match backend {
        Backend::Sqlite => {
            let mut connection = SqliteConnection::connect(url).await.unwrap();
            let query = sqlx::query_scalar(query);
            query.fetch_one(&mut connection).await.unwrap()
        }
        Backend::Postgres => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let query = sqlx::query_scalar(query);
            query.fetch_one(&mut connection).await.unwrap()
        }
    }
}

/// Runs a statement with one text parameter (`$1`).
pub async fn execute(backend: Backend, service: &Service, statement: &'static str, text: String) {
    let url = service.database.url();
    match backend {
        Backend::Sqlite => {
            let mut connection = SqliteConnection::connect(url).await.unwrap();
            let statement = sqlx::query(statement).bind(text);
            statement.execute(&mut connection).await.unwrap();
        }
        Backend::Postgres => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let statement = sqlx::query(statement).bind(text);
            statement.execute(&mut connection).await.unwrap();
        }
    }
}

/// Runs a statement without parameters.
///
/// # Errors
/// If the database refuses it.
pub async fn try_execute(
    backend: Backend,
    service: &Service,
    statement: &'static str,
) -> sqlx::Result<()> {
    let url = service.database.url();
    match backend {
        Backend::Sqlite => {
            let mut connection = SqliteConnection::connect(url).await?;
            sqlx::query(statement).execute(&mut connection).await?;
        }
        Backend::Postgres => {
            let mut connection = PgConnection::connect(url).await?;
            sqlx::query(statement).execute(&mut connection).await?;
        }
    }
    Ok(())
}
