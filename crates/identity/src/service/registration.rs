//! Registration, and the check of new passwords.

use request::Role;
use settings::clock::new_id;
use settings::validation::InvalidValue;

use super::{Service, outcome};
use crate::audit::AuditContext;
use crate::domain::{Email, Name, Password, User};
use crate::error::IdentityError;
use crate::metrics::Outcome;
use crate::store::NewUser;

impl Service {
    /// Creates a user.
    ///
    /// # Errors
    /// [`IdentityError::EmailTaken`], [`IdentityError::Overloaded`], or a failure.
    pub async fn register(
        &self,
        email: Email,
        name: Name,
        password: Password,
    ) -> Result<User, IdentityError> {
        let result = self.create_user(email, name, password).await;
        self.attempts.register.count(outcome(&result));
        result
    }

    async fn create_user(
        &self,
        email: Email,
        name: Name,
        password: Password,
    ) -> Result<User, IdentityError> {
        let password_hash = self.hasher.hash(password).await?;
        let user = User {
            id: new_id(),
            email,
            name,
            role: Role::User,
            created_at: self.clock.now(),
            version: 1,
        };
        let new = NewUser {
            user: user.clone(),
            password_hash,
        };
        let audit = AuditContext::current();
        self.store.create_user(new, &audit).await?;
        Ok(user)
    }

    /// Checks a new password: the rules of [`Password::parse`], and the configured list of passwords
    /// that became public.
    ///
    /// # Errors
    /// The rule that the password breaks.
    pub fn parse_new_password(
        &self,
        text: String,
        own_address: Option<&Email>,
    ) -> Result<Password, InvalidValue> {
        let password = Password::parse(text, own_address)?;
        if self.breached_passwords.contains(password.expose()) {
            return Err(InvalidValue {
                code: "BREACHED",
                message: "is in a list of passwords that became public; choose another one",
            });
        }
        Ok(password)
    }

    /// Counts a registration whose fields are not valid.
    pub fn count_invalid_registration(&self) {
        self.attempts.register.count(Outcome::Failure);
    }
}
