//! Password hashing with Argon2id (RFC 9106), on own threads and with a limit.

use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};

use super::domain::Password;
use super::metrics::{HashMetrics, NO_MEMORY, NO_THREAD, QUEUE_FULL, QUEUE_TIMEOUT};
use crate::Config;

/// OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static ARGON2: LazyLock<Argon2<'static>> = LazyLock::new(|| {
    // A test checks that the constants are within the bounds of `Params`.
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
});

/// Reasons why a password was neither hashed nor compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many hashes at once, or no memory or thread. It can be tried again.
    #[error("no place to hash a password: {0}")]
    Overloaded(&'static str),
    /// A defect: an unreadable stored hash, no randomness, or a panic.
    #[error("password hashing failed: {0}")]
    Failed(String),
}

/// Result of comparing a password with a stored hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Verified {
    /// The password is wrong.
    Wrong,
    /// The password is right.
    Right {
        /// The password hashed with the present parameters, if the stored hash has others.
        rehashed: Option<String>,
    },
}

/// Hashes passwords, with a limit on concurrent hashes, because each uses 19 MiB while it runs. A
/// limited number of further ones waits for a short time, in order of arrival.
#[derive(Clone)]
pub struct Hasher {
    places: Arc<Semaphore>,
    /// Half of the places, rounded up. Changes and confirmations are limited to them, so that the
    /// others stay free for logins.
    confirmations: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    timeout: Duration,
    metrics: HashMetrics,
}

/// The right to run a hash, until it is dropped.
type Place = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Hasher {
    /// A hasher with the limits of the configuration.
    #[must_use]
    pub fn new(config: &Config, metrics: HashMetrics) -> Self {
        let permits = |count: u32| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            places: permits(config.max_concurrent_hashes),
            confirmations: permits(config.max_concurrent_hashes.div_ceil(2)),
            queue: permits(config.max_queued_hashes),
            timeout: config.hash_queue_timeout,
            metrics,
        }
    }

    /// Hashes a password with a fresh salt, as a PHC string.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        self.run(false, move || hash(&password)).await
    }

    /// Compares a password with a stored hash. Without a stored hash (an unknown user) it takes as
    /// long and the password is wrong.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
    ) -> Result<Verified, HashError> {
        self.run(false, move || verify(&password, stored.as_deref()))
            .await
    }

    /// Compares the own password, required as confirmation, with its hash.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn confirm(&self, password: Password, stored: String) -> Result<Verified, HashError> {
        self.run(true, move || verify(&password, Some(&stored)))
            .await
    }

    /// Hashes a new password if the present one is right, otherwise returns `None`.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn replace(
        &self,
        current: Password,
        stored: String,
        new: Password,
    ) -> Result<Option<String>, HashError> {
        self.run(true, move || match verify(&current, Some(&stored))? {
            Verified::Wrong => Ok(None),
            Verified::Right { .. } => hash(&new).map(Some),
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        confirms: bool,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let result = async {
            let place = self.place(confirms).await?;
            run_on_thread(STACK, move || {
                // The work holds the place instead of the request, so that a client that
                // disconnects does not free it early.
                let _place = place;
                work()
            })
            .await
        }
        .await;
        if let Err(HashError::Overloaded(reason)) = result {
            self.metrics.refused(reason);
        }
        result
    }

    async fn place(&self, confirms: bool) -> Result<Place, HashError> {
        let began = Instant::now();
        let taking = async {
            // Takes the scarcer permit first, so that a task that waits for it holds no place.
            let of_half = if confirms {
                Some(Arc::clone(&self.confirmations).acquire_owned().await?)
            } else {
                None
            };
            let place = Arc::clone(&self.places).acquire_owned().await?;
            Ok((of_half, place))
        };
        let mut taking = std::pin::pin!(taking);
        let place = match futures_util::poll!(taking.as_mut()) {
            Poll::Ready(place) => place,
            Poll::Pending => {
                let queued = self.queue.try_acquire();
                let _queued = queued.map_err(|_| HashError::Overloaded(QUEUE_FULL))?;
                tokio::time::timeout(self.timeout, taking)
                    .await
                    .map_err(|_| HashError::Overloaded(QUEUE_TIMEOUT))?
            }
        };
        self.metrics.waited(began.elapsed());
        place.map_err(|error: AcquireError| failed(&error))
    }
}

/// Hashes one password at the start. It takes no place, because the start hashes one password only.
///
/// # Errors
/// [`HashError`].
pub async fn hash_at_start(password: Password) -> Result<String, HashError> {
    run_on_thread(STACK, move || hash(&password)).await
}

/// Stack of the thread of a hash. Argon2 keeps its memory on the heap.
const STACK: usize = 256 << 10;

/// Runs a hash on its own thread. The thread costs a thousandth of the hash, and the hash does not
/// wait behind other blocking work. If the system refuses the thread, this returns an error. The
/// pool of Tokio would panic.
async fn run_on_thread<T: Send + 'static>(
    stack: usize,
    work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
) -> Result<T, HashError> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("password-hash".to_owned())
        .stack_size(stack)
        .spawn(move || {
            // The receiver is gone if the client has disconnected.
            let _left = done.send(work());
        })
        .map_err(|_| HashError::Overloaded(NO_THREAD))?;
    // A panic drops the sender. The panic hook has logged and counted it.
    result
        .await
        .map_err(|_| HashError::Failed("a panic".to_owned()))?
}

/// A lack of memory is an overload, because memory becomes available again.
fn refused(error: Error) -> HashError {
    match error {
        Error::OutOfMemory => HashError::Overloaded(NO_MEMORY),
        other => failed(&other),
    }
}

fn failed(error: &impl std::fmt::Display) -> HashError {
    HashError::Failed(error.to_string())
}

fn hash(password: &Password) -> Result<String, HashError> {
    ARGON2
        .hash_password(password.expose().as_bytes())
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(refused)
}

fn verify(password: &Password, stored: Option<&str>) -> Result<Verified, HashError> {
    let Some(stored) = stored.filter(|_| password.is_hashable()) else {
        // Hashes with a fixed salt, so that the time is the same. The result is discarded.
        let mut discarded = [0; 32];
        let bytes = &password.expose().as_bytes();
        ARGON2
            .hash_password_into(&bytes[..bytes.len().min(256)], &[0; 16], &mut discarded)
            .map_err(|error| refused(error.into()))?;
        return Ok(Verified::Wrong);
    };
    let stored = PasswordHash::new(stored).map_err(|error| failed(&error))?;
    match ARGON2.verify_password(password.expose().as_bytes(), &stored) {
        Ok(()) if is_current(&stored) => Ok(Verified::Right { rehashed: None }),
        Ok(()) => Ok(Verified::Right {
            rehashed: Some(hash(password)?),
        }),
        Err(Error::PasswordInvalid) => Ok(Verified::Wrong),
        Err(error) => Err(refused(error)),
    }
}

fn is_current(stored: &PasswordHash) -> bool {
    let ours = ARGON2.params();
    stored.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && stored.version == Some(Version::V0x13.into())
        && Params::try_from(stored).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (ours.m_cost(), ours.t_cost(), ours.p_cost())
        })
}

#[cfg(test)]
mod tests {
    use super::super::metrics::IdentityMetrics;
    use super::*;
    use settings::{Layers, Reader};

    fn password(text: &str) -> Password {
        Password::presented(text.to_owned())
    }

    #[test]
    fn the_parameters_are_those_of_the_cheat_sheet() {
        let hash = hash(&password("correct horse battery")).unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
    }

    #[test]
    fn only_the_password_fits_its_hash() {
        let stored = hash(&password("correct horse battery")).unwrap();
        let right = verify(&password("correct horse battery"), Some(&stored)).unwrap();
        assert_eq!(right, Verified::Right { rehashed: None });
        for (wrong, stored) in [
            ("correct horse batterz", Some(stored.as_str())),
            ("", Some(stored.as_str())),
            (&*"x".repeat(100_000), Some(stored.as_str())),
            ("correct horse battery", None),
        ] {
            assert_eq!(verify(&password(wrong), stored).unwrap(), Verified::Wrong);
        }
        assert!(verify(&password("x"), Some("not a hash")).is_err());
    }

    #[test]
    fn a_hash_with_older_parameters_is_replaced() {
        let older = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8 * 1024, 1, 1, None).unwrap(),
        );
        let stored: PasswordHash = older.hash_password(b"correct horse battery").unwrap();
        let verified = verify(
            &password("correct horse battery"),
            Some(&stored.to_string()),
        );
        let Verified::Right {
            rehashed: Some(fresh),
        } = verified.unwrap()
        else {
            panic!("not replaced")
        };
        assert!(is_current(&PasswordHash::new(&fresh).unwrap()));
    }

    fn hasher(places: u32, queued: u32, timeout: Duration) -> Hasher {
        let mut config = crate::Config::read(&mut Reader::new(Layers::default()));
        config.max_concurrent_hashes = places;
        config.max_queued_hashes = queued;
        config.hash_queue_timeout = timeout;
        let metrics = IdentityMetrics::register(&prometheus::Registry::new()).unwrap();
        Hasher::new(&config, HashMetrics::new(&metrics))
    }

    async fn refusal(hasher: &Hasher) -> Option<&'static str> {
        match hasher.hash(password("correct horse battery")).await {
            Err(HashError::Overloaded(reason)) => Some(reason),
            _ => None,
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_length_and_in_time() {
        let hasher = hasher(1, 1, Duration::from_millis(1));
        let held = Arc::clone(&hasher.places).try_acquire_owned().unwrap();
        assert_eq!(refusal(&hasher).await, Some(QUEUE_TIMEOUT));
        let queued = Arc::clone(&hasher.queue).try_acquire_owned().unwrap();
        assert_eq!(refusal(&hasher).await, Some(QUEUE_FULL));
        drop((held, queued));
        assert_eq!(refusal(&hasher).await, None);
    }

    #[tokio::test]
    async fn confirmations_leave_places_to_logins() {
        let hasher = hasher(2, 0, Duration::ZERO);
        let _confirming = hasher.place(true).await.unwrap();
        let second = hasher.place(true).await;
        assert!(matches!(second, Err(HashError::Overloaded(QUEUE_FULL))));
        assert!(hasher.place(false).await.is_ok());
    }

    #[tokio::test]
    async fn a_thread_that_is_refused_is_an_overload() {
        let run = |stack| run_on_thread(stack, || Ok(7));
        assert!(matches!(run(STACK).await, Ok(7)));
        // Larger than any address space.
        let refused = run(1 << 50).await;
        assert!(matches!(refused, Err(HashError::Overloaded(NO_THREAD))));
    }

    #[tokio::test]
    async fn a_panic_of_a_hash_is_a_defect() {
        let panicked = run_on_thread::<()>(STACK, || panic!("a defect")).await;
        assert!(matches!(panicked, Err(HashError::Failed(_))));
    }

    #[test]
    fn memory_that_is_refused_is_an_overload_and_no_defect() {
        let kind = |error| matches!(refused(error), HashError::Overloaded(NO_MEMORY));
        assert!(kind(Error::OutOfMemory) && kind(argon2::Error::OutOfMemory.into()));
        assert!(!kind(Error::RngFailure));
    }
}
