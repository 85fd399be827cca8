//! Creation of the first administrator from the configuration.

use db::DbError;
use request::Role;
use settings::clock::{Clock, new_id};
use uuid::Uuid;

use super::audit::AuditContext;
use super::domain::{Name, User};
use super::password::hash_at_start;
use super::store::{FirstAdministrator, IdentityStore, NewUser};
use crate::Config;
use crate::config::InvalidAdministrator;

/// Name of the first administrator, until it is changed.
const INITIAL_NAME: &str = "Administrator";

/// Reasons why the first administrator could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The address or the password is not acceptable. Reading the configuration reports it first.
    #[error(transparent)]
    InvalidAdministrator(#[from] InvalidAdministrator),
    /// The password could not be hashed.
    #[error(transparent)]
    Hash(#[from] super::password::HashError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Whether the configuration names a first administrator.
#[must_use]
pub fn is_configured(config: &Config) -> bool {
    config.bootstrap_admin_email.is_some()
}

/// Creates the first administrator while there is none. Several starts, even at the same time,
/// create one administrator. A user who registered the address is not promoted. Otherwise a
/// stranger could become the administrator by registering the address first. In that case the log
/// contains the command of `program` that promotes the user.
///
/// # Errors
/// [`BootstrapError`].
pub async fn bootstrap(
    config: &Config,
    store: &dyn IdentityStore,
    clock: &dyn Clock,
    program: &str,
) -> Result<(), BootstrapError> {
    let Some(administrator) = config.first_administrator() else {
        return Ok(());
    };
    let (email, password) = administrator?;
    // Hashing is slow and would delay every start, so the hash is made only if it is needed.
    if store.has_administrator().await? {
        return Ok(());
    }
    if let Some(registered) = store.credentials(&email).await? {
        warn_address_taken(registered.user, program);
        return Ok(());
    }
    let user = User {
        id: new_id(),
        email,
        name: Name::stored(INITIAL_NAME.to_owned()),
        role: Role::Admin,
        created_at: clock.now(),
        version: 1,
    };
    let id = user.id;
    let password_hash = hash_at_start(password).await?;
    let new = NewUser {
        user,
        password_hash,
    };
    let audit = AuditContext::service();
    match store.create_first_administrator(new, &audit).await? {
        FirstAdministrator::Created => {
            tracing::info!(user = %id, "the first administrator was created");
        }
        // Another process created the administrator first.
        FirstAdministrator::NotNeeded => {}
        FirstAdministrator::AddressTaken { user } => warn_address_taken(user, program),
    }
    Ok(())
}

fn warn_address_taken(user: Uuid, program: &str) {
    tracing::warn!(
        %user,
        command = format!("{program} admin promote --id {user}"),
        "no administrator exists, and another user has registered the address of the first \
         administrator; if you trust that user, run the command"
    );
}
