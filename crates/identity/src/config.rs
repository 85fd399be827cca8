//! The section of the configuration about identity and tokens.

use std::time::Duration;

use settings::check::{at_least_one, positive};
use settings::settings;
use settings::{Profile, Reader, Secret, SecretSource};

/// Known to everybody, and so refused in production.
const DEVELOPMENT_PASSWORD: &str = "development-only-password";
const DEVELOPMENT_EMAIL: &str = "admin@example.com";

settings! {
    /// Tokens, their keys, and the first administrator.
    pub struct Config("auth") {
        /// JWK set (RFC 7517) with private keys; the first signs, all verify. Generated in development.
        pub keys("keys"): Option<SecretSource> = Unset;
        /// `iss` of access tokens.
        pub issuer("issuer"): String = Same("{service}");
        /// `aud` of access tokens.
        pub audience("audience"): String = Same("{service}-api");
        /// Life of an access token.
        pub access_ttl("access_ttl"): Duration = Same("15m"), check positive;
        /// Life of a refresh token.
        pub refresh_ttl("refresh_ttl"): Duration = Same("30d"), check positive;
        /// A refresh token used again within this after its rotation is 409 and revokes nothing.
        pub refresh_grace("refresh_grace"): Duration = Same("10s");
        /// Password hashes at the same time; more wait. Each takes 19 MiB. Changes and confirmations of passwords take half of them at most.
        pub max_concurrent_hashes("max_concurrent_hashes"): u32 = Same("4"), check at_least_one;
        /// Password hashes that wait at the same time; beyond it 503 `OVERLOADED`.
        pub max_queued_hashes("max_queued_hashes"): u32 = Same("64");
        /// Longest wait of a password hash; then 503 `OVERLOADED`.
        pub hash_queue_timeout("hash_queue_timeout"): Duration = Same("1s");
        /// E-mail address of the first administrator, made at the start while there is no administrator. Nobody who registered the address is promoted: `admin promote` does that.
        pub bootstrap_admin_email("bootstrap_admin_email"): Option<Secret> = DevelopmentOnly(DEVELOPMENT_EMAIL);
        /// Password of the first administrator.
        pub bootstrap_admin_password("bootstrap_admin_password"): Option<Secret> = DevelopmentOnly(DEVELOPMENT_PASSWORD);
    }
}

impl Config {
    /// The administrator of development, when it is the one that everybody knows.
    #[must_use]
    pub fn development_admin(&self) -> Option<(&'static str, &'static str)> {
        let email = self.bootstrap_admin_email.as_ref()?.expose();
        let password = self.bootstrap_admin_password.as_ref()?.expose();
        let known = (DEVELOPMENT_EMAIL, DEVELOPMENT_PASSWORD);
        ((email, password) == known).then_some(known)
    }

    /// Rules of this section that span keys or depend on the profile.
    pub fn validate(&self, reader: &mut Reader) {
        match &self.keys {
            Some(source) => {
                if let Err(why) = crate::keys::KeySet::parse(source.content.expose()) {
                    reader.refuse("auth.keys", &why.to_string());
                }
            }
            None if reader.profile() == Profile::Production => reader.refuse(
                "auth.keys",
                "is not set, and production refuses generated keys; the keygen subcommand makes a set",
            ),
            None => {}
        }
        let password = self.bootstrap_admin_password.as_ref().map(Secret::expose);
        if reader.profile() == Profile::Production && password == Some(DEVELOPMENT_PASSWORD) {
            reader.refuse(
                "auth.bootstrap_admin_password",
                "is the one of development, which production refuses",
            );
        }
        if self.bootstrap_admin_email.is_some() != self.bootstrap_admin_password.is_some() {
            reader.refuse(
                "auth.bootstrap_admin_email",
                "and auth.bootstrap_admin_password must be set together",
            );
        }
    }
}
