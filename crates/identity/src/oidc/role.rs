//! The role that a claim of a token gives.

use request::Role;
use serde_json::{Map, Value};

/// The claim with the roles, and the values that make an administrator.
#[derive(Debug, Clone)]
pub struct RoleRule {
    claim: String,
    admin_values: Vec<String>,
}

impl RoleRule {
    /// A rule for a claim. Dots in its name lead into objects.
    #[must_use]
    pub fn new(claim: String, admin_values: Vec<String>) -> Self {
        Self {
            claim,
            admin_values,
        }
    }

    /// The role of the user with these claims.
    pub(super) fn role(&self, claims: &Map<String, Value>) -> Role {
        if find(claims, &self.claim).is_some_and(|value| self.admits(value)) {
            Role::Admin
        } else {
            Role::User
        }
    }

    /// Whether a value of the claim makes an administrator. A text is a list of words, like `scope`
    /// (RFC 9068, section 2.2.3).
    fn admits(&self, value: &Value) -> bool {
        let is_admin = |word: &str| self.admin_values.iter().any(|admin| admin == word);
        match value {
            Value::String(text) => is_admin(text) || text.split(' ').any(is_admin),
            Value::Array(items) => items.iter().filter_map(Value::as_str).any(is_admin),
            _ => false,
        }
    }
}

/// The claim with this name, or the member at this path. Names of claims can have dots
/// (`https://example.com/roles`).
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(claim: &str, claims: &Value) -> Role {
        let rule = RoleRule::new(claim.to_owned(), vec!["admin".to_owned(), "ops".to_owned()]);
        rule.role(claims.as_object().unwrap())
    }

    #[test]
    fn a_claim_makes_an_administrator() {
        let url = "https://example.com/roles";
        for (claim, claims) in [
            ("roles", json!({"roles": ["user", "ops"]})),
            ("roles", json!({"roles": "admin"})),
            ("scope", json!({"scope": "read admin write"})),
            (
                "realm_access.roles",
                json!({"realm_access": {"roles": ["admin"]}}),
            ),
            (url, json!({url: ["admin"]})),
            ("app.a.roles", json!({"app": {"a.roles": ["admin"]}})),
        ] {
            assert_eq!(role(claim, &claims), Role::Admin, "{claims}");
        }
    }

    #[test]
    fn anything_else_makes_a_user() {
        for (claim, claims) in [
            ("roles", json!({})),
            ("roles", json!({"roles": ["Admin", "administrator"]})),
            ("roles", json!({"roles": {"admin": true}})),
            ("roles", json!({"roles": [["admin"]]})),
            ("roles", json!({"roles": true})),
            ("roles", json!({"roles": "administrator"})),
            ("scope", json!({"scope": "read admin:read"})),
            ("roles.admin", json!({"roles": ["admin"]})),
            ("realm_access.roles", json!({"realm_access": "admin"})),
            ("role", json!({"roles": "admin"})),
        ] {
            assert_eq!(role(claim, &claims), Role::User, "{claims}");
        }
    }
}
