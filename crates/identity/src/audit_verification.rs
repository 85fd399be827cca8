//! Verification of the audit trail: every row, and the chain of their hashes.

use db::DbError;

use crate::audit::{ChainHash, StoredEvent};
use crate::hash::hex;
use crate::store::IdentityStore;

/// Rows that one query reads.
const BATCH: u32 = 1_000;

/// A chain without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedChain {
    /// Number of rows in the table.
    pub rows: u64,
    /// The last row that the retention removed. 0 if it removed none.
    pub expired_through: i64,
    /// Position of the last row.
    pub sequence: i64,
    /// Hash of the last row.
    pub hash: ChainHash,
}

impl VerifiedChain {
    /// The hash as the log lines of audit events have it.
    #[must_use]
    pub fn hash_text(&self) -> String {
        hex(&self.hash)
    }
}

/// The reason why a chain cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ChainFault {
    /// The row at this position is missing.
    #[error("the event {sequence} is missing")]
    Missing {
        /// The position.
        sequence: i64,
    },
    /// The row, or the one before it, was changed after it was written.
    #[error("the event {sequence} was changed, or the event before it")]
    Changed {
        /// The position.
        sequence: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// The state of the check behind the rows that were read.
struct Walk {
    expected: i64,
    previous: ChainHash,
}

impl Walk {
    fn step(&mut self, row: &StoredEvent) -> Result<(), ChainFault> {
        let sequence = self.expected;
        if row.sequence != sequence {
            return Err(ChainFault::Missing { sequence });
        }
        if row.compute_hash(&self.previous) != row.hash {
            return Err(ChainFault::Changed { sequence });
        }
        self.previous = row.hash;
        self.expected += 1;
        Ok(())
    }
}

/// Reads the whole chain and checks every row. `progress` gets the number of rows after each batch.
/// Events that are added meanwhile are left out.
///
/// # Errors
/// The first fault.
pub async fn verify(
    store: &dyn IdentityStore,
    progress: impl Fn(u64) + Send,
) -> Result<VerifiedChain, ChainFault> {
    let head = store.audit_head().await?;
    let mut walk = Walk {
        expected: head.expired_through + 1,
        previous: head.expired_hash,
    };
    let mut rows = 0;
    while walk.expected <= head.sequence {
        let batch = store
            .audit_events_from(walk.expected, head.sequence, BATCH)
            .await?;
        if batch.is_empty() {
            let sequence = walk.expected;
            return Err(ChainFault::Missing { sequence });
        }
        for row in &batch {
            walk.step(row)?;
            rows += 1;
        }
        progress(rows);
    }
    if walk.previous != head.hash {
        let sequence = head.sequence;
        return Err(ChainFault::Changed { sequence });
    }
    Ok(VerifiedChain {
        rows,
        expired_through: head.expired_through,
        sequence: head.sequence,
        hash: head.hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::GENESIS;
    use crate::audit::tests::chain;

    fn walked(rows: &[StoredEvent]) -> Result<(), ChainFault> {
        let mut walk = Walk {
            expected: 1,
            previous: GENESIS,
        };
        rows.iter().try_for_each(|row| walk.step(row))
    }

    #[test]
    fn a_changed_missing_or_moved_row_is_found() {
        let rows = chain(5);
        walked(&rows).unwrap();
        let mut changed = rows.clone();
        changed[2].detail = Some("x".to_owned());
        let fault = walked(&changed).unwrap_err();
        assert!(
            matches!(fault, ChainFault::Changed { sequence: 3 }),
            "{fault}"
        );
        // A row whose own hash was made to fit is found by its successor.
        changed[2].hash = changed[2].compute_hash(&changed[1].hash);
        let fault = walked(&changed).unwrap_err();
        assert!(
            matches!(fault, ChainFault::Changed { sequence: 4 }),
            "{fault}"
        );
        let mut missing = rows.clone();
        missing.remove(3);
        let fault = walked(&missing).unwrap_err();
        assert!(
            matches!(fault, ChainFault::Missing { sequence: 4 }),
            "{fault}"
        );
    }
}
