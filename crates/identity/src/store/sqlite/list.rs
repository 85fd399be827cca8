//! The list of users on SQLite.

use db::{Db, DbError};
use request::page::PageRequest;
use sqlx::Sqlite;
use uuid::Uuid;

use super::StoredUser;
use crate::domain::{SearchText, User, UserFilter, UserOrder};

pub(super) async fn users(
    db: &Db<Sqlite>,
    filter: &UserFilter,
    page: PageRequest,
) -> Result<Vec<User>, DbError> {
    let role = filter.role.map(request::Role::as_str);
    let search = filter.search.as_ref().map(SearchText::as_str);
    let limit = page.fetch();
    db.run("list_users", async {
        let mut connection = db.acquire().await?;
        let rows = match filter.order {
            UserOrder::NewestFirst => {
                let after = page.after.unwrap_or(Uuid::max());
                sqlx::query_as!(
                    StoredUser,
                    r#"SELECT id AS "id: Uuid", email AS "email!", name AS "name!", role,
                              created_at, version
                       FROM users
                       WHERE erased_at IS NULL AND id < ?1 AND (?2 IS NULL OR role = ?2)
                         AND (?3 IS NULL OR instr(email, ?3) > 0 OR instr(lower(name), ?3) > 0)
                       ORDER BY id DESC LIMIT ?4"#,
                    after,
                    role,
                    search,
                    limit,
                )
                .fetch_all(&mut *connection)
                .await
            }
            UserOrder::OldestFirst => {
                let after = page.after.unwrap_or(Uuid::nil());
                sqlx::query_as!(
                    StoredUser,
                    r#"SELECT id AS "id: Uuid", email AS "email!", name AS "name!", role,
                              created_at, version
                       FROM users
                       WHERE erased_at IS NULL AND id > ?1 AND (?2 IS NULL OR role = ?2)
                         AND (?3 IS NULL OR instr(email, ?3) > 0 OR instr(lower(name), ?3) > 0)
                       ORDER BY id LIMIT ?4"#,
                    after,
                    role,
                    search,
                    limit,
                )
                .fetch_all(&mut *connection)
                .await
            }
        };
        Ok(rows?.into_iter().map(User::from).collect())
    })
    .await
}
