//! Faults in background work. A run that hangs, fails or panics can be tried like an answer that
//! fails.

use crate::faults::Faults;

/// The method of workers, beside the methods of routes.
const RUN: &str = "RUN";

/// The path of a worker in a fault: `worker:cleanup`.
fn worker_path(name: &str) -> String {
    format!("worker:{name}")
}

impl Faults {
    /// Accepts faults of a worker.
    pub fn add_worker(&self, name: &str) {
        self.targets().insert(worker_path(name), vec![RUN]);
    }

    /// Applies the fault of a worker before its work begins.
    ///
    /// # Errors
    /// When the fault has a status.
    ///
    /// # Panics
    /// When the fault is a panic.
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
            // The panic is the purpose of the fault.
            panic!("injected fault");
        }
        if effect.status.is_some() {
            self.injected("error", &path);
            anyhow::bail!("injected fault");
        }
        Ok(())
    }
}
