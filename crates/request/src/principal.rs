//! The [`Principal`] of a request: its user, role and verified credential.

use std::sync::Arc;

use uuid::Uuid;

/// The permissions of a principal. The roles are in ascending order: each has the permissions of
/// those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Access to the user's objects only.
    User,
    /// Also operations of administrators, such as the administration of users.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 2] = [Self::User, Self::Admin];

    /// The word in tokens, answers and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// Reads [`Role::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// The authenticated originator of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: Uuid,
    /// The role of the user.
    pub role: Role,
    /// The credential that identified the user.
    pub credential: Credential,
}

/// A credential after its verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An access token. It has all rights of its user.
    AccessToken {
        /// The session of the token, if it has one.
        session: Option<Uuid>,
    },
    /// An API key. It has those rights of its user that its scopes name.
    ApiKey {
        /// Id of the key.
        id: Uuid,
        /// Names of its scopes, see [`Scope`](crate::Scope).
        scopes: Arc<[Box<str>]>,
    },
}
