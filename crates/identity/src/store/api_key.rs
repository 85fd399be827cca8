//! Data of API keys that services and stores exchange.

use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{ApiKey, Name, SecretHash};

/// An API key to be created.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The user of the key.
    pub user: Uuid,
    /// The key.
    pub key: ApiKey,
    /// Hash of its secret.
    pub secret_hash: SecretHash,
    /// Limit of the keys of the user, this one included. Expired ones do not count.
    pub max_keys: u32,
}

/// An API key as it is verified.
#[derive(Debug, Clone)]
pub struct StoredApiKey {
    /// The user of the key.
    pub user: Uuid,
    /// The key.
    pub key: ApiKey,
    /// Hash of its secret.
    pub secret_hash: SecretHash,
}

/// Scopes in their stored form: names with a space between them.
pub(crate) fn written_scopes(scopes: &[Box<str>]) -> String {
    scopes.join(" ")
}

/// A row of an API key.
pub(crate) struct ApiKeyRow {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) scopes: String,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) last_used_at: Option<OffsetDateTime>,
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            name: Name::stored(row.name),
            scopes: row.scopes.split(' ').map(Box::from).collect::<Arc<[_]>>(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        }
    }
}
