//! Faults in background work: what a run that hangs, fails or panics does to the
//! process can be tried like an answer that fails.

use crate::faults::Faults;

/// The method of a worker, among those of routes.
pub const RUN: &str = "RUN";

/// What stands for a worker where a fault names a route: `worker:cleanup`.
#[must_use]
pub fn worker_path(name: &str) -> String {
    format!("worker:{name}")
}

impl Faults {
    /// Does to a run of this worker what its fault says, where its work would begin.
    ///
    /// # Errors
    /// When the fault has a status.
    ///
    /// # Panics
    /// When the fault says so.
    pub async fn before_run(&self, worker: &str) -> anyhow::Result<()> {
        let path = worker_path(worker);
        let Some(effect) = self.effect(RUN, &path) else {
            return Ok(());
        };
        if let Some(latency) = effect.latency {
            self.injected("latency", &path);
            tokio::time::sleep(latency).await;
        }
        if effect.panic {
            self.injected("panic", &path);
            // The point of the fault.
            #[allow(clippy::panic)]
            {
                panic!("injected fault");
            }
        }
        if effect.status.is_some() {
            self.injected("error", &path);
            anyhow::bail!("injected fault");
        }
        Ok(())
    }
}
