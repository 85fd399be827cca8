//! Permissions of the ledger's handlers.

request::permissions! {
    /// Reads the own accounts.
    pub(super) ReadAccounts: User = "accounts:read";
    /// Opens accounts.
    pub(super) OpenAccounts: User = "accounts:write";
    /// Reads transfers from and to the own accounts.
    pub(super) ReadTransfers: User = "transfers:read";
    /// Moves money from the own accounts.
    pub(super) MakeTransfers: User = "transfers:write";
    /// Deposits money from outside.
    pub(super) MakeDeposits: Admin = "deposits:write";
}
