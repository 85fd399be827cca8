//! The first administrator, from the configuration.

use db::DbError;
use settings::Reader;
use settings::clock::{Clock, new_id};
use uuid::Uuid;

use super::domain::{Email, Name, Password, User};
use super::password::hash_at_start;
use super::store::{FirstAdministrator, IdentityStore, NewUser};
use crate::Config;
use request::Role;

/// What the first administrator is called until somebody says otherwise.
const NAME: &str = "Administrator";

/// Why the first administrator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The address or the password is not acceptable; `validate` says so first.
    #[error("auth.bootstrap_admin_{field} {why}")]
    Invalid {
        /// Which of the two.
        field: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The password could not be hashed.
    #[error(transparent)]
    Hash(#[from] super::password::HashError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Refuses an administrator that could not be made.
pub fn validate(config: &Config, reader: &mut Reader) {
    if let Some(Err(BootstrapError::Invalid { field, why })) = parse(config) {
        reader.refuse(&format!("auth.bootstrap_admin_{field}"), why);
    }
}

fn parse(config: &Config) -> Option<Result<(Email, Password), BootstrapError>> {
    let email = config.bootstrap_admin_email.as_ref()?.expose();
    let password = config.bootstrap_admin_password.as_ref()?;
    let invalid = |field, why| BootstrapError::Invalid { field, why };
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

/// Makes the first administrator while there is none. A user who registered the
/// address is not promoted: whoever comes first to an address would become the
/// administrator. The log then says which command of `program` promotes that user. Any number of
/// starts, also at once, make one administrator.
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
    // The hash is slow and the start is not: it is made only when it is needed.
    if store.has_administrator().await? {
        return Ok(());
    }
    if let Some(holder) = store.credentials(&email).await? {
        warn_of(holder.user, program);
        return Ok(());
    }
    let user = User {
        id: new_id(),
        email,
        name: Name::stored(NAME.to_owned()),
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
            tracing::info!(user = %id, "the first administrator was made");
        }
        // Another process was faster.
        FirstAdministrator::NotNeeded => {}
        FirstAdministrator::AddressTaken { user } => warn_of(user, program),
    }
    Ok(())
}

fn warn_of(user: Uuid, program: &str) {
    tracing::warn!(
        %user,
        command = format!("{program} admin promote --id {user}"),
        "there is no administrator, and the first administrator's address belongs to a user \
         who registered it; if you know that user, run the command"
    );
}
