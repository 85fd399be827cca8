//! Rows of users.

use request::Role;
use time::OffsetDateTime;
use uuid::Uuid;

use super::AuthorizationClaims;
use crate::domain::{Email, Name, User};

/// A row of a user.
pub(crate) struct UserRow {
    pub(crate) id: Uuid,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) version: i64,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: Email::stored(row.email),
            name: Name::stored(row.name),
            role: stored_role(&row.role),
            created_at: row.created_at,
            version: row.version,
        }
    }
}

/// The claims of a user, from the columns of a row.
pub(crate) fn stored_claims(role: &str, epoch: i64) -> AuthorizationClaims {
    AuthorizationClaims {
        role: stored_role(role),
        epoch,
    }
}

/// The role of a stored word. An unknown word, which a later release may have stored, is the least
/// role.
fn stored_role(text: &str) -> Role {
    Role::parse(text).unwrap_or(Role::User)
}
