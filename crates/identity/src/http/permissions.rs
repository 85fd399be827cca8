//! Permissions of the handlers of this slice. API keys can read. Credentials, the own user and the
//! roles of others are changed with an access token only, so that a leaked key cannot take over an
//! account or create credentials that outlive it.

request::permissions! {
    /// Reads the own user.
    pub(super) ReadOwnUser: User = "profile:read";
    /// Changes or erases the own user, and changes the own password.
    pub(super) ManageOwnUser: User;
    /// Lists and ends the own sessions.
    pub(super) ManageSessions: User;
    /// Creates, lists and revokes the own API keys.
    pub(super) ManageApiKeys: User;
    /// Lists and reads users.
    pub(super) ReadUsers: Admin = "users:read";
    /// Reads the audit trail.
    pub(super) ReadAudit: Admin = "audit:read";
    /// Changes roles and erases users.
    pub(super) ManageUsers: Admin;
}
