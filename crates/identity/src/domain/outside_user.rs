//! Users of outside issuers. They have an id and no row.

use aws_lc_rs::digest::{Context, SHA256};
use uuid::{Builder, Uuid, Version};

/// The id of the user `subject` of an issuer: a UUIDv8 of the SHA-256 of both. The pair identifies
/// a user for good (OpenID Connect Core 1.0, section 5.7), so the id needs no storage and every
/// replica computes the same. Own users have UUIDv7, so no id belongs to both kinds.
#[must_use]
pub fn outside_user(issuer: &str, subject: &str) -> Uuid {
    let mut hash = Context::new(&SHA256);
    // With its length, no other pair has the same bytes.
    hash.update(&(issuer.len() as u64).to_be_bytes());
    hash.update(issuer.as_bytes());
    hash.update(subject.as_bytes());
    let mut bytes = [0; 16];
    // SHA-256 has 32 bytes by definition.
    for (to, from) in bytes.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Whether an id is one of [`outside_user`].
#[must_use]
pub fn is_outside_user(user: Uuid) -> bool {
    user.get_version() == Some(Version::Custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The accounts of users hang on this id, so the computation may not change.
    #[test]
    fn the_id_of_a_user_does_not_change() {
        let user = outside_user("https://issuer.example", "ada");
        assert_eq!(user.to_string(), "ef2810f1-2866-8da2-b8f7-7f981ef579ee");
        assert!(is_outside_user(user));
        assert!(!is_outside_user(settings::clock::new_id()));
    }

    #[test]
    fn different_pairs_are_different_users() {
        let users = [
            outside_user("https://a.example", "ada"),
            outside_user("https://a.example", "Ada"),
            outside_user("https://a.example/", "ada"),
            outside_user("https://a.examplea", "da"),
            outside_user("https://b.example", "ada"),
        ];
        for (index, user) in users.iter().enumerate() {
            assert!(!users[..index].contains(user), "{index}");
        }
    }
}
