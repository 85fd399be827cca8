//! The list of users on Postgres.

use db::{Db, DbError};
use request::page::PageRequest;
use sqlx::Postgres;
use uuid::Uuid;

use crate::domain::{SearchText, User, UserFilter, UserOrder};
use crate::store::UserRow;

pub(super) async fn users(
    db: &Db<Postgres>,
    filter: &UserFilter,
    page: PageRequest,
) -> Result<Vec<User>, DbError> {
    let role = filter.role.map(request::Role::as_str);
    let search = filter.search.as_ref().map(SearchText::as_str);
    db.transact("list_users", || async {
        let mut connection = db.acquire().await?;
        // The collation "C" lowers ASCII letters only, as SQLite does.
        let rows = match filter.order {
            UserOrder::NewestFirst => {
                sqlx::query_as!(
                    UserRow,
                    r#"SELECT id, email AS "email!", name AS "name!", role, created_at, version
                       FROM users
                       WHERE erased_at IS NULL AND id < $1 AND ($2::text IS NULL OR role = $2)
                         AND ($3::text IS NULL OR strpos(email, $3) > 0
                              OR strpos(lower(name COLLATE "C"), $3) > 0)
                       ORDER BY id DESC LIMIT $4"#,
                    page.after.unwrap_or(Uuid::max()),
                    role,
                    search,
                    page.fetch(),
                )
                .fetch_all(&mut *connection)
                .await
            }
            UserOrder::OldestFirst => {
                sqlx::query_as!(
                    UserRow,
                    r#"SELECT id, email AS "email!", name AS "name!", role, created_at, version
                       FROM users
                       WHERE erased_at IS NULL AND id > $1 AND ($2::text IS NULL OR role = $2)
                         AND ($3::text IS NULL OR strpos(email, $3) > 0
                              OR strpos(lower(name COLLATE "C"), $3) > 0)
                       ORDER BY id LIMIT $4"#,
                    page.after.unwrap_or(Uuid::nil()),
                    role,
                    search,
                    page.fetch(),
                )
                .fetch_all(&mut *connection)
                .await
            }
        };
        Ok(rows?.into_iter().map(User::from).collect())
    })
    .await
}
