//! Threads of password hashes.

use tokio::sync::oneshot;

use super::HashError;
use crate::metrics::NO_THREAD;

/// Stack size of the thread of a hash. Argon2 keeps its memory on the heap.
pub(super) const STACK_BYTES: usize = 256 << 10;

/// Runs a hash on its own thread. The thread costs a thousandth of the hash, and the hash does not
/// wait behind other blocking work. If the system refuses the thread, this returns an error. The
/// pool of Tokio would panic.
pub(super) async fn run_on_thread<T: Send + 'static>(
    stack_bytes: usize,
    work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
) -> Result<T, HashError> {
    let (sender, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("password-hash".to_owned())
        .stack_size(stack_bytes)
        .spawn(move || {
            lower_priority();
            // The receiver is gone if the client has disconnected.
            let _unreceived = sender.send(work());
        })
        .map_err(|_| HashError::Overloaded(NO_THREAD))?;
    // A panic drops the sender. The panic hook has logged and counted it.
    result
        .await
        .map_err(|_| HashError::Failed("the thread panicked".to_owned()))?
}

/// Nice value of the threads. The scheduler gives a thread at 0 about nine times as much processor
/// time as one at 10, so that hashes on all processors delay probes and other requests little.
const NICE: i32 = 10;

/// Lowers the priority of the current thread.
fn lower_priority() {
    // On Linux this concerns the calling thread alone. Lowering is always allowed, and a failure
    // changes nothing but the latency of other requests.
    let _lowered = rustix::process::setpriority_process(None, NICE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_is_refused_is_an_overload() {
        let run = |stack| run_on_thread(stack, || Ok(7));
        assert!(matches!(run(STACK_BYTES).await, Ok(7)));
        // Larger than any address space.
        let refused = run(1 << 50).await;
        assert!(matches!(refused, Err(HashError::Overloaded(NO_THREAD))));
    }

    #[tokio::test]
    async fn a_panic_of_a_hash_is_a_defect() {
        let panicked = run_on_thread::<()>(STACK_BYTES, || panic!("a defect")).await;
        assert!(matches!(panicked, Err(HashError::Failed(_))));
    }
}
