//! Configuration of identity and tokens.

use std::time::Duration;

use settings::check::{at_least_one, positive};
use settings::{Profile, Reader, Secret, SecretSource, settings};

use crate::domain::{BreachedPasswords, Email, Password};

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
        /// Path of a file with passwords that became public, one a line, at most 64 MiB. They are refused as
        /// new passwords.
        pub breached_passwords_path("breached_passwords_path"): Option<String> = Unset;
        /// Longest life of a session, from its login. A refresh does not prolong it beyond that.
        pub session_max_age("session_max_age"): Duration = Same("90d"), check positive;
        /// Limit of the sessions of a user. A further login ends the oldest one.
        pub max_sessions("max_sessions"): u32 = Same("100"), check at_least_one;
        /// Whether browsers can log in with cookies (`/api/v1/auth/browser/…`).
        pub browser_sessions("browser_sessions"): bool = Same("false");
        /// Age at which audit events are removed, 30 days at least.
        pub audit_retention("audit_retention"): Duration = Same("365d"), check audit_retention;
        /// First part of an API key, for secret scanners. Lower-case letters and digits. Keys with
        /// another prefix stay valid.
        pub api_key_prefix("api_key_prefix"): String = Same("gty"), check api_key_prefix;
        /// Longest lifetime of an API key, and its lifetime if the request sets none.
        pub api_key_ttl("api_key_ttl"): Duration = Same("365d"), check positive;
        /// Limit of the API keys of a user. A further one is refused.
        pub max_api_keys("max_api_keys"): u32 = Same("50"), check at_least_one;
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

/// Checks the retention of the audit trail. The database keeps younger events anyway.
fn audit_retention(retention: &Duration) -> Result<(), String> {
    (*retention >= Duration::from_hours(30 * 24))
        .then_some(())
        .ok_or_else(|| "must be 30d or more".to_owned())
}

/// Checks the prefix of API keys.
#[expect(clippy::ptr_arg, reason = "the macro passes a reference to the field")]
fn api_key_prefix(prefix: &String) -> Result<(), String> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let valid = (2..=20).contains(&prefix.len()) && prefix.bytes().all(is_part);
    valid
        .then_some(())
        .ok_or_else(|| "must have 2 to 20 lower-case letters and digits".to_owned())
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

    /// The configured list of passwords that became public. It is empty without a file.
    pub(crate) fn breached_passwords(&self) -> Result<BreachedPasswords, String> {
        let file = self.breached_passwords_path.as_deref();
        file.map_or(Ok(BreachedPasswords::default()), BreachedPasswords::read)
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
        if let Err(reason) = self.breached_passwords() {
            reader.refuse("auth.breached_passwords_path", &reason);
        }
        if let Some(Err(InvalidAdministrator { field, reason })) = self.first_administrator() {
            reader.refuse(&format!("auth.bootstrap_admin_{field}"), reason);
        }
    }
}
