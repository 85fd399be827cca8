//! The audit trail: events that concern credentials and rights.
//!
//! An event is written in the transaction of the change that it describes, so there is no change
//! without its event. Each row has a hash over its columns and the hash of the row before it.
//! [`verify`](crate::audit_verification::verify) finds a row that was changed, added or removed. After the commit the event is also a
//! log line, with the hash, so that the log can prove that the table was not written anew.
//!
//! Events have ids, the network of the client and the id of the request. They have no address, no
//! name and no secret.

mod chain;
mod event;

pub use chain::{ChainHash, StoredEvent};
pub use event::{Action, Actor, AuditContext, AuditEvent, AuditOutcome};

#[cfg(test)]
pub(crate) use chain::{GENESIS, tests};
