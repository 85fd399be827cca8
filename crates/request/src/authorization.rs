//! Permissions of the principal of a request. A handler names its [`Permission`] in its type, so
//! that the decision is part of the handler.
//!
//! ```
//! use request::{Permission as _, Role};
//!
//! mod permissions {
//!     request::permissions! {
//!         /// Reads the own mails.
//!         pub ReadMails: User = "mails:read";
//!         /// Deletes the mails of any user.
//!         pub DeleteMails: Admin = "mails:delete";
//!         /// Changes the own password. No API key may do it.
//!         pub ChangePassword: User;
//!     }
//! }
//!
//! assert_eq!(permissions::DeleteMails::ROLE, Role::Admin);
//! assert!(permissions::ChangePassword::SCOPE.is_none());
//! let scopes: Vec<_> = permissions::scopes().iter().map(|scope| scope.name).collect();
//! assert_eq!(scopes, ["mails:read", "mails:delete"]);
//! ```

use crate::principal::{Credential, Principal, Role};

/// A right that an API key can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The word in requests and answers, for instance `users:read`.
    pub name: &'static str,
    /// The purpose, for documents.
    pub doc: &'static str,
}

/// The right that a handler requires. The macro [`permissions!`](crate::permissions) declares
/// implementations.
pub trait Permission: Send + Sync + 'static {
    /// The least role of the user.
    const ROLE: Role;
    /// The scope that an API key needs. `None` refuses all API keys.
    const SCOPE: Option<Scope>;
}

/// The reason why a principal lacks a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// The user has a lower role than this.
    #[error("the user lacks the role {}", .0.as_str())]
    Role(Role),
    /// The API key lacks this scope.
    #[error("the API key lacks the scope {}", .0.name)]
    Scope(Scope),
    /// API keys cannot have this permission.
    #[error("no API key has this permission")]
    ApiKey,
}

/// Decides whether a principal has the permission `P`.
///
/// # Errors
/// The reason why the principal lacks it.
pub fn authorize<P: Permission>(principal: &Principal) -> Result<(), Denied> {
    if principal.role < P::ROLE {
        return Err(Denied::Role(P::ROLE));
    }
    match (&principal.credential, P::SCOPE) {
        (Credential::AccessToken { .. }, _) => Ok(()),
        (Credential::ApiKey { .. }, None) => Err(Denied::ApiKey),
        (Credential::ApiKey { scopes, .. }, Some(scope)) => {
            let granted = scopes.iter().any(|granted| **granted == *scope.name);
            granted.then_some(()).ok_or(Denied::Scope(scope))
        }
    }
}

/// Declares permissions as types, and `scopes()`, the list of their scopes. Each has a purpose, the
/// least role, and the scope that an API key needs: `/// Purpose.` and
/// `pub Name: Role = "scope";`. Without a scope no API key has the permission. The module
/// [`authorization`](crate::authorization) has an example.
#[macro_export]
macro_rules! permissions {
    ($( $(#[doc = $doc:literal])+ $visibility:vis $name:ident: $role:ident $(= $scope:literal)?; )*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug)]
            $visibility struct $name;

            impl $crate::Permission for $name {
                const ROLE: $crate::Role = $crate::Role::$role;
                const SCOPE: ::std::option::Option<$crate::Scope> =
                    $crate::permissions!(@scope [$($doc)+] $($scope)?);
            }
        )*
        /// The scopes of these permissions.
        #[must_use]
        pub fn scopes() -> ::std::vec::Vec<$crate::Scope> {
            let scopes = [$(<$name as $crate::Permission>::SCOPE),*];
            scopes.into_iter().flatten().collect()
        }
    };
    (@scope [$($doc:literal)+]) => { ::std::option::Option::None };
    (@scope [$($doc:literal)+] $scope:literal) => {
        ::std::option::Option::Some($crate::Scope {
            name: $scope,
            doc: concat!($($doc, "\n"),+),
        })
    };
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro declares a public function")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use uuid::Uuid;

    crate::permissions! {
        /// Reads.
        Read: User = "things:read";
        /// Manages.
        Manage: Admin = "things:manage";
        /// Signs in.
        SignIn: User;
    }

    fn principal(role: Role, credential: Credential) -> Principal {
        Principal {
            user: Uuid::nil(),
            role,
            credential,
        }
    }

    fn decisions(principal: &Principal) -> [Result<(), Denied>; 3] {
        [
            authorize::<Read>(principal),
            authorize::<Manage>(principal),
            authorize::<SignIn>(principal),
        ]
    }

    #[test]
    fn an_access_token_has_the_rights_of_its_user() {
        let token = Credential::AccessToken { session: None };
        let user = principal(Role::User, token.clone());
        assert_eq!(
            decisions(&user),
            [Ok(()), Err(Denied::Role(Role::Admin)), Ok(())]
        );
        let admin = principal(Role::Admin, token);
        assert_eq!(decisions(&admin), [Ok(()), Ok(()), Ok(())]);
    }

    #[test]
    fn an_api_key_has_its_scopes_within_the_rights_of_its_user() {
        let key = |scopes: &[&str]| Credential::ApiKey {
            id: Uuid::nil(),
            scopes: scopes
                .iter()
                .map(|scope| Box::from(*scope))
                .collect::<Arc<[_]>>(),
        };
        let [read, manage] = scopes().try_into().unwrap();
        let both = ["things:read", "things:manage"];
        let of_user = principal(Role::User, key(&both));
        assert_eq!(
            decisions(&of_user),
            [Ok(()), Err(Denied::Role(Role::Admin)), Err(Denied::ApiKey)]
        );
        let of_admin = principal(Role::Admin, key(&both[..1]));
        assert_eq!(
            decisions(&of_admin),
            [Ok(()), Err(Denied::Scope(manage)), Err(Denied::ApiKey)]
        );
        let without = principal(Role::Admin, key(&["things:rea", "things:reads"]));
        assert_eq!(
            decisions(&without),
            [
                Err(Denied::Scope(read)),
                Err(Denied::Scope(manage)),
                Err(Denied::ApiKey)
            ]
        );
    }
}
