//! Events, and the context that they share.

use request::RequestContext;
use settings::clock::new_id;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::SessionOrigin;

/// An event that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of `as_str` say the same")]
pub enum Action {
    UserRegistered,
    UserChanged,
    UserErased,
    PasswordChanged,
    PasswordConfirmed,
    RoleChanged,
    LoggedIn,
    SessionRefreshed,
    RefreshTokenReused,
    SessionEnded,
    SessionsEnded,
    ApiKeyCreated,
    ApiKeyUsed,
    ApiKeyRevoked,
    AdministratorCreated,
    PermissionDenied,
    AuditExpired,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 17] = [
        Self::UserRegistered,
        Self::UserChanged,
        Self::UserErased,
        Self::PasswordChanged,
        Self::PasswordConfirmed,
        Self::RoleChanged,
        Self::LoggedIn,
        Self::SessionRefreshed,
        Self::RefreshTokenReused,
        Self::SessionEnded,
        Self::SessionsEnded,
        Self::ApiKeyCreated,
        Self::ApiKeyUsed,
        Self::ApiKeyRevoked,
        Self::AdministratorCreated,
        Self::PermissionDenied,
        Self::AuditExpired,
    ];

    /// The word in the table, in answers and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserRegistered => "user.registered",
            Self::UserChanged => "user.changed",
            Self::UserErased => "user.erased",
            Self::PasswordChanged => "user.password_changed",
            Self::PasswordConfirmed => "user.password_confirmed",
            Self::RoleChanged => "user.role_changed",
            Self::LoggedIn => "session.started",
            Self::SessionRefreshed => "session.refreshed",
            Self::RefreshTokenReused => "session.refresh_token_reused",
            Self::SessionEnded => "session.ended",
            Self::SessionsEnded => "session.all_ended",
            Self::ApiKeyCreated => "api_key.created",
            Self::ApiKeyUsed => "api_key.used",
            Self::ApiKeyRevoked => "api_key.revoked",
            Self::AdministratorCreated => "administrator.created",
            Self::PermissionDenied => "permission.denied",
            Self::AuditExpired => "audit.expired",
        }
    }

    /// Reads [`Action::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

/// Outcome of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Success,
    /// It was refused.
    Refused,
}

impl AuditOutcome {
    /// The word in the table, in answers and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
        }
    }
}

/// The originator of an action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Actor {
    /// A client without credentials, for instance before a login.
    #[default]
    Anonymous,
    /// An authenticated user.
    User {
        /// The user.
        id: Uuid,
        /// The API key, if the user was authenticated by one.
        api_key: Option<Uuid>,
    },
    /// A person at the command line.
    Operator,
    /// The service itself, for instance a worker.
    Service,
}

impl Actor {
    /// The word in the table, in answers and in the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User { .. } => "user",
            Self::Operator => "operator",
            Self::Service => "service",
        }
    }
}

/// The originator of the events of one operation, and the request that caused them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditContext {
    /// The originator.
    pub actor: Actor,
    /// Network of the client, as in [`SessionOrigin`].
    pub network: Option<String>,
    /// Id of the request.
    pub request_id: Option<String>,
}

impl AuditContext {
    /// The context of the current request.
    #[must_use]
    pub fn current() -> Self {
        let current = RequestContext::with(|context| {
            let user = context.principal.get().copied();
            let actor = user.map_or(Actor::Anonymous, |id| Actor::User {
                id,
                api_key: context.api_key.get().copied(),
            });
            Self {
                actor,
                network: SessionOrigin::new(None, context.client_address).address_prefix,
                request_id: Some(context.request_id.to_string()),
            }
        });
        current.unwrap_or_default()
    }

    /// The context of a command.
    #[must_use]
    pub fn operator() -> Self {
        Self {
            actor: Actor::Operator,
            ..Self::default()
        }
    }

    /// The context of the service itself.
    #[must_use]
    pub fn service() -> Self {
        Self {
            actor: Actor::Service,
            ..Self::default()
        }
    }
}

/// An event before its place in the chain is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// UUIDv7.
    pub id: Uuid,
    /// Time of the event.
    pub occurred_at: OffsetDateTime,
    /// The action.
    pub action: Action,
    /// Its outcome.
    pub outcome: AuditOutcome,
    /// The originator and the request.
    pub context: AuditContext,
    /// The user whom the event concerns, if known.
    pub subject: Option<Uuid>,
    /// The session or the API key that the event concerns.
    pub object: Option<Uuid>,
    /// A word that the action needs beside the ids, for instance the new role.
    pub detail: Option<String>,
}

impl AuditEvent {
    /// An event of an action that was done.
    #[must_use]
    pub fn new(action: Action, context: AuditContext, now: OffsetDateTime) -> Self {
        Self {
            id: new_id(),
            occurred_at: now,
            action,
            outcome: AuditOutcome::Success,
            context,
            subject: None,
            object: None,
            detail: None,
        }
    }

    /// Names the user whom the event concerns.
    #[must_use]
    pub fn subject(self, user: Uuid) -> Self {
        Self {
            subject: Some(user),
            ..self
        }
    }

    /// Names the session or the API key that the event concerns.
    #[must_use]
    pub fn object(self, id: Uuid) -> Self {
        Self {
            object: Some(id),
            ..self
        }
    }

    /// Adds a word.
    #[must_use]
    pub fn detail(self, detail: &str) -> Self {
        Self {
            detail: Some(detail.to_owned()),
            ..self
        }
    }

    /// The action was refused.
    #[must_use]
    pub fn refused(self) -> Self {
        Self {
            outcome: AuditOutcome::Refused,
            ..self
        }
    }
}
