//! Configuration of identity and tokens.

use std::time::Duration;

use settings::check::{at_least_one, positive};
use settings::{Profile, Reader, Secret, SecretSource, settings};

use crate::domain::{Email, Password};

/// Public knowledge, so production rejects it.
const DEVELOPMENT_PASSWORD: &str = "development-only-password";
const DEVELOPMENT_EMAIL: &str = "admin@example.com";

settings! {
    /// Tokens, their keys, and the first administrator.
    pub struct Config("auth", validate) {
        /// JWK set (RFC 7517) with private keys. The first key signs, all of them verify. Generated
        /// in development.
        pub keys("keys"): Option<SecretSource> = Unset;
        /// `iss` of access tokens.
        pub issuer("issuer"): String = Same("{service}");
        /// `aud` of access tokens.
        pub audience("audience"): String = Same("{service}-api");
        /// Lifetime of an access token.
        pub access_ttl("access_ttl"): Duration = Same("15m"), check positive;
        /// Lifetime of a refresh token.
        pub refresh_ttl("refresh_ttl"): Duration = Same("30d"), check positive;
        /// Time after the rotation of a refresh token in which its reuse is answered 409 and
        /// revokes nothing.
        pub refresh_grace("refresh_grace"): Duration = Same("10s");
        /// Longest life of a session, from its login. A refresh does not prolong it beyond that.
        pub session_max_age("session_max_age"): Duration = Same("90d"), check positive;
        /// Limit of the sessions of a user. A further login ends the oldest one.
        pub max_sessions("max_sessions"): u32 = Same("100"), check at_least_one;
        /// Limit of concurrent password hashes. Each of them uses 19 MiB, and further ones wait.
        /// Changes and confirmations of passwords use at most half of it, rounded up.
        pub max_concurrent_hashes("max_concurrent_hashes"): u32 = Same("4"), check at_least_one;
        /// Limit of password hashes that wait at the same time. Further ones are answered 503
        /// `OVERLOADED`.
        pub max_queued_hashes("max_queued_hashes"): u32 = Same("64");
        /// Longest wait of a password hash before it is answered 503 `OVERLOADED`.
        pub hash_queue_timeout("hash_queue_timeout"): Duration = Same("1s");
        /// E-mail address of the first administrator, who is created at the start while there is no
        /// administrator. A user who registered the address is not promoted. `admin promote` does
        /// that.
        pub bootstrap_admin_email("bootstrap_admin_email"): Option<Secret> = DevelopmentOnly(DEVELOPMENT_EMAIL);
        /// Password of the first administrator.
        pub bootstrap_admin_password("bootstrap_admin_password"): Option<Secret> = DevelopmentOnly(DEVELOPMENT_PASSWORD);
    }
}

/// The first administrator cannot be created with this address or password.
#[derive(Debug, thiserror::Error)]
#[error("auth.bootstrap_admin_{field} {reason}")]
pub struct InvalidAdministrator {
    field: &'static str,
    reason: &'static str,
}

impl Config {
    /// The administrator of development, if the configured one is the default.
    #[must_use]
    pub fn development_admin(&self) -> Option<(&'static str, &'static str)> {
        let email = self.bootstrap_admin_email.as_ref()?.expose();
        let password = self.bootstrap_admin_password.as_ref()?.expose();
        let defaults = (DEVELOPMENT_EMAIL, DEVELOPMENT_PASSWORD);
        ((email, password) == defaults).then_some(defaults)
    }

    /// The address and the password of the first administrator, if both are set.
    pub(crate) fn first_administrator(
        &self,
    ) -> Option<Result<(Email, Password), InvalidAdministrator>> {
        let email = self.bootstrap_admin_email.as_ref()?.expose();
        let password = self.bootstrap_admin_password.as_ref()?.expose();
        let invalid = |field, reason| InvalidAdministrator { field, reason };
        let email = Email::parse(email).map_err(|error| invalid("email", error.message));
        let password = Password::parse(password.to_owned(), email.as_ref().ok())
            .map_err(|error| invalid("password", error.message));
        Some(email.and_then(|email| Ok((email, password?))))
    }

    /// Validates rules that span keys or depend on the profile.
    fn validate(&self, reader: &mut Reader) {
        match &self.keys {
            Some(source) => {
                if let Err(error) = crate::signing_keys::SigningKeySet::parse(source.content.expose()) {
                    reader.refuse("auth.keys", &error.to_string());
                }
            }
            None if reader.profile() == Profile::Production => reader.refuse(
                "auth.keys",
                "is not set, and production does not allow generated keys; create a key set with the keygen subcommand",
            ),
            None => {}
        }
        let password = self.bootstrap_admin_password.as_ref().map(Secret::expose);
        if reader.profile() == Profile::Production && password == Some(DEVELOPMENT_PASSWORD) {
            reader.refuse(
                "auth.bootstrap_admin_password",
                "is the development password, which production does not allow",
            );
        }
        if self.bootstrap_admin_email.is_some() != self.bootstrap_admin_password.is_some() {
            reader.refuse(
                "auth.bootstrap_admin_email",
                "and auth.bootstrap_admin_password must be set together",
            );
        }
        if let Some(Err(InvalidAdministrator { field, reason })) = self.first_administrator() {
            reader.refuse(&format!("auth.bootstrap_admin_{field}"), reason);
        }
    }
}
