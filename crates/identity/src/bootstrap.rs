//! Creation of the first administrator from the configuration.

use db::DbError;
use request::Role;
use settings::Reader;
use settings::clock::{Clock, new_id};
use uuid::Uuid;

use super::domain::{Email, Name, Password, User};
use super::password::hash_at_start;
use super::store::{FirstAdministrator, IdentityStore, NewUser};
use crate::Config;

/// Name of the first administrator, until it is changed.
const INITIAL_NAME: &str = "Administrator";

/// Reasons why the first administrator could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The address or the password is not acceptable. `validate` reports it first.
    #[error("auth.bootstrap_admin_{field} {reason}")]
    InvalidValue {
        /// `email` or `password`.
        field: &'static str,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The password could not be hashed.
    #[error(transparent)]
    Hash(#[from] super::password::HashError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Rejects a configuration whose administrator could not be created.
pub fn validate(config: &Config, reader: &mut Reader) {
    if let Some(Err(BootstrapError::InvalidValue { field, reason })) = parse(config) {
        reader.refuse(&format!("auth.bootstrap_admin_{field}"), reason);
    }
}

fn parse(config: &Config) -> Option<Result<(Email, Password), BootstrapError>> {
    let email = config.bootstrap_admin_email.as_ref()?.expose();
    let password = config.bootstrap_admin_password.as_ref()?;
    let invalid = |field, reason| BootstrapError::InvalidValue { field, reason };
    let email = Email::parse(email).map_err(|error| invalid("email", error.message));
    let password = Password::parse(password.expose().to_owned(), email.as_ref().ok())
        .map_err(|error| invalid("password", error.message));
    Some(email.and_then(|email| Ok((email, password?))))
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
    let Some(parsed) = parse(config) else {
        return Ok(());
    };
    let (email, password) = parsed?;
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
    match store.create_first_administrator(new).await? {
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
