//! Metrics of the ledger.

use prometheus::{IntCounterVec, Registry};
use request::idempotency::KeyConflict;
use telemetry::metrics;

use super::domain::Refusal;
use super::store::{TransferError, TransferReceipt};

metrics! {
    /// The ledger.
    pub struct LedgerMetrics {
        /// Requested transfers and deposits by outcome. `created` made a transfer, `replayed`
        /// repeated the answer of an idempotency key. `insufficient_funds` and `refused` (any other
        /// refusal) made none. `mismatch` is a key with another request, `in_progress` a key whose
        /// request is running. `failed` got no answer from the database.
        pub transfers: IntCounterVec = "ledger_transfers_total"["outcome"];
    }
}

/// The values of `outcome`.
const OUTCOMES: [&str; 7] = [
    "created",
    "replayed",
    "insufficient_funds",
    "refused",
    "mismatch",
    "in_progress",
    "failed",
];

impl LedgerMetrics {
    /// Registers the block and creates every series at 0.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn with_all_series(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::register(registry)?;
        for outcome in OUTCOMES {
            metrics.transfers.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// Counts the outcome of an order.
    pub(super) fn count(&self, result: &Result<TransferReceipt, TransferError>) {
        let outcome = match result {
            Ok(TransferReceipt { replayed: true, .. })
            | Err(TransferError::Refused { replayed: true, .. }) => "replayed",
            Ok(_) => "created",
            Err(TransferError::Refused {
                refusal: Refusal::InsufficientFunds,
                ..
            }) => "insufficient_funds",
            Err(TransferError::Refused { .. } | TransferError::Erased) => "refused",
            Err(TransferError::KeyConflict(KeyConflict::Mismatch)) => "mismatch",
            Err(TransferError::KeyConflict(KeyConflict::InProgress)) => "in_progress",
            Err(TransferError::Database(_)) => "failed",
        };
        self.transfers.with_label_values(&[outcome]).inc();
    }
}
