//! Configuration of outside issuers.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use settings::check::positive;
use settings::{Profile, Reader, SettingKey, settings};

use super::role::RoleRule;

/// Section of the issuer that has no name, and prefix of the others.
const SECTION: &str = "auth.oidc";
/// Name of the issuer that has no name, in metrics and log lines.
const UNNAMED: &str = "default";

settings! {
    /// The names of further issuers.
    pub struct Names("auth.oidc") {
        /// Names of further issuers. Each has all keys below under its name, for example
        /// `auth.oidc.partner.issuer` and `APP__AUTH__OIDC__PARTNER__ISSUER` for `partner`.
        pub issuers("issuers"): Vec<String> = Same("");
    }
}

settings! {
    /// An issuer whose access tokens are accepted.
    pub struct Section("auth.oidc", validate) {
        /// Issuer whose access tokens are accepted besides those of this service, as in the `iss`
        /// of its tokens. Its metadata are at `<issuer>/.well-known/openid-configuration`. `http`
        /// is allowed in development, and in production for a loopback host.
        pub issuer("issuer"): Option<String> = Unset;
        /// Required `aud` of the tokens. It must not be the id of a client, because the ID tokens
        /// of the client have that audience.
        pub audience("audience"): Option<String> = Unset;
        /// Accepts tokens whose `typ` is `JWT` or absent. Providers that do not follow RFC 9068
        /// need it. Without it only `at+jwt` is accepted.
        pub accept_plain_jwt("accept_plain_jwt"): bool = Same("false");
        /// Claim with the roles of a user, as text or list. Dots lead into objects
        /// (`realm_access.roles`), unless a claim has the whole name.
        pub role_claim("role_claim"): Option<String> = Unset;
        /// Values of the claim that make a user an administrator. All others are users.
        pub admin_values("admin_values"): Vec<String> = Same("");
        /// Time between two fetches of the keys. A shorter `max-age` of the provider has precedence.
        pub refresh_interval("refresh_interval"): Duration = Same("10m"), check positive;
        /// Shortest time between two fetches that tokens with unknown keys cause. It is also the
        /// longest pause after a failed fetch.
        pub refetch_interval("refetch_interval"): Duration = Same("30s"), check positive;
        /// Time limit for the use of keys while the provider cannot be reached.
        pub max_key_age("max_key_age"): Duration = Same("24h"), check positive;
        /// Time limit of a fetch of metadata and keys together.
        pub fetch_timeout("fetch_timeout"): Duration = Same("5s"), check positive;
    }
}

/// The configured issuers.
#[derive(Debug, Clone)]
pub struct Config {
    /// All issuers. Empty by default.
    pub issuers: Vec<Issuer>,
}

/// An issuer and the rules for its tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Name in metrics, log lines and readiness checks.
    pub name: &'static str,
    /// `iss` of the tokens.
    pub issuer: String,
    /// Required `aud`.
    pub audience: String,
    /// Whether tokens need no `typ`.
    pub accept_plain_jwt: bool,
    /// The claim that makes an administrator.
    pub role: Option<RoleRule>,
    /// Time between two fetches.
    pub refresh_interval: Duration,
    /// Shortest time between two fetches for unknown keys.
    pub refetch_interval: Duration,
    /// Time limit for keys that could not be fetched again.
    pub max_key_age: Duration,
    /// Time limit of a fetch.
    pub fetch_timeout: Duration,
    /// Whether `http` is allowed for all hosts.
    pub allows_http: bool,
}

impl Config {
    /// The keys of this section, in the order of their declaration.
    pub const KEYS: &'static [SettingKey] = &{
        let mut keys = [Names::KEYS[0]; 1 + Section::KEYS.len()];
        let mut at = 0;
        while at < Section::KEYS.len() {
            keys[at + 1] = Section::KEYS[at];
            at += 1;
        }
        keys
    };

    /// Reads the section and the sections of the named issuers. The reader collects the problems.
    #[must_use]
    pub fn read(reader: &mut Reader) -> Self {
        let Names { issuers: names } = Names::read(reader);
        let unnamed = Section::read(reader);
        let mut issuers: Vec<_> = unnamed.issuer(UNNAMED, reader).into_iter().collect();
        for (index, name) in names.iter().enumerate() {
            if let Err(why) = check_name(name, &names[..index]) {
                reader.refuse(
                    "auth.oidc.issuers",
                    &format!("has the name `{name}`, {why}"),
                );
                continue;
            }
            let own = format!("{SECTION}.{name}");
            let issuer = reader.repeated(SECTION, own, |reader| {
                let section = Section::read(reader);
                if section.issuer.is_none() {
                    reader.refuse("auth.oidc.issuer", "is required and not set");
                }
                // Leaked: the set of issuers is fixed.
                section.issuer(Box::leak(name.clone().into_boxed_str()), reader)
            });
            issuers.extend(issuer);
        }
        Self { issuers }
    }

    /// Refuses an issuer that is this service or that is configured twice.
    pub fn validate(&self, own_issuer: &str, reader: &mut Reader) {
        for (index, issuer) in self.issuers.iter().enumerate() {
            let why = if issuer.issuer == own_issuer {
                "is auth.issuer, the issuer of this service"
            } else if self.issuers[..index]
                .iter()
                .any(|other| other.issuer == issuer.issuer)
            {
                "is the issuer of another section"
            } else {
                continue;
            };
            reader.refuse(&issuer.key("issuer"), why);
        }
    }
}

/// Names become parts of keys and of variables.
fn check_name(name: &str, earlier: &[String]) -> Result<(), &'static str> {
    let is_word = name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.contains("__")
        && name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    let is_key = Config::KEYS
        .iter()
        .any(|key| key.path.strip_prefix(SECTION) == Some(&format!(".{name}")));
    if !is_word {
        Err("expected lower-case letters, digits and single underscores")
    } else if is_key || name == UNNAMED {
        Err("which has another meaning here")
    } else if earlier.iter().any(|other| other == name) {
        Err("which the list has twice")
    } else {
        Ok(())
    }
}

impl Section {
    /// Validates rules that span keys or depend on the profile.
    fn validate(&self, reader: &mut Reader) {
        match &self.issuer {
            Some(issuer) => {
                let allows_http = reader.profile() == Profile::Development;
                if let Err(why) = check_url(issuer, allows_http) {
                    reader.refuse("auth.oidc.issuer", why);
                }
                if self.audience.is_none() {
                    reader.refuse(
                        "auth.oidc.audience",
                        "is required with an issuer and not set",
                    );
                }
            }
            None if self.audience.is_some() => {
                reader.refuse("auth.oidc.audience", "has no effect without an issuer");
            }
            None => {}
        }
        if self.role_claim.is_some() == self.admin_values.is_empty() {
            reader.refuse(
                "auth.oidc.role_claim",
                "and auth.oidc.admin_values must be set together",
            );
        }
        if self.max_key_age < self.refresh_interval {
            reader.refuse(
                "auth.oidc.max_key_age",
                "must not be shorter than auth.oidc.refresh_interval",
            );
        }
    }

    /// The issuer of the section, if there is one.
    fn issuer(self, name: &'static str, reader: &Reader) -> Option<Issuer> {
        Some(Issuer {
            name,
            issuer: self.issuer?,
            audience: self.audience?,
            accept_plain_jwt: self.accept_plain_jwt,
            role: self
                .role_claim
                .map(|claim| RoleRule::new(claim, self.admin_values)),
            refresh_interval: self.refresh_interval,
            refetch_interval: self.refetch_interval,
            max_key_age: self.max_key_age,
            fetch_timeout: self.fetch_timeout,
            allows_http: reader.profile() == Profile::Development,
        })
    }
}

impl Issuer {
    fn key(&self, key: &str) -> String {
        match self.name {
            UNNAMED => format!("{SECTION}.{key}"),
            name => format!("{SECTION}.{name}.{key}"),
        }
    }
}

/// Checks the URL of an issuer or of its keys (OpenID Connect Discovery 1.0, section 3).
pub(super) fn check_url(url: &str, allows_http: bool) -> Result<(), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or("is not a URL with a host")?;
    if url.contains(['?', '#', '@']) {
        return Err("must not have a user, a query or a fragment");
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allows_http || is_loopback(host) => Ok(()),
        Some("http") => {
            Err("must begin with https, because production allows http for loopback hosts only")
        }
        _ => Err("must begin with https"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests;
