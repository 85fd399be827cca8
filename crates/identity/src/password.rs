//! Password hashing with Argon2id (RFC 9106), each hash on its own thread, with a limit on
//! concurrent hashes.

mod thread;

use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use self::thread::{STACK_BYTES, run_on_thread};
use super::domain::Password;
use super::metrics::{HashMetrics, NO_MEMORY, QUEUE_FULL, QUEUE_TIMEOUT};
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

/// Reasons why a password was neither hashed nor verified.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many hashes at once, or no memory or thread. It can be tried again.
    #[error("no capacity to hash a password: {0}")]
    Overloaded(&'static str),
    /// A defect: an unreadable stored hash, no randomness, or a panic.
    #[error("password hashing failed: {0}")]
    Failed(String),
}

/// Result of verifying a password against a stored hash.
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordVerification {
    /// The password is wrong.
    Wrong,
    /// The password is right.
    Right {
        /// The password hashed with the current parameters, if the stored hash has others.
        upgraded_hash: Option<String>,
    },
}

/// Hashes passwords, with a limit on concurrent hashes, because each uses 19 MiB while it runs. A
/// limited number of further ones waits for a short time, in order of arrival.
#[derive(Clone)]
pub struct PasswordHasher {
    permits: Arc<Semaphore>,
    /// Half of the permits, rounded up. Changes and confirmations are limited to them, so that the
    /// others stay free for logins.
    confirmation_permits: Arc<Semaphore>,
    queue_permits: Arc<Semaphore>,
    queue_timeout: Duration,
    metrics: HashMetrics,
}

/// The right to run one hash, until it is dropped: the permit of a confirmation, if the hash is
/// one, and the permit that every hash needs.
type HashPermit = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

/// The use of a hash, which decides on the permits that it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HashPurpose {
    /// A registration or a login.
    LogIn,
    /// The own password, required again, or its change.
    Confirm,
}

impl PasswordHasher {
    /// A hasher with the limits of the configuration.
    #[must_use]
    pub fn new(config: &Config, metrics: HashMetrics) -> Self {
        let semaphore = |count: u32| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            permits: semaphore(config.max_concurrent_hashes),
            confirmation_permits: semaphore(config.max_concurrent_hashes.div_ceil(2)),
            queue_permits: semaphore(config.max_queued_hashes),
            queue_timeout: config.hash_queue_timeout,
            metrics,
        }
    }

    /// Hashes a password with a fresh salt, as a PHC string.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        self.run(HashPurpose::LogIn, move || hash(&password)).await
    }

    /// Verifies a password against a stored hash. Without a stored hash (an unknown user) it takes
    /// as long and the password is wrong.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
    ) -> Result<PasswordVerification, HashError> {
        self.run(HashPurpose::LogIn, move || {
            verify(&password, stored.as_deref())
        })
        .await
    }

    /// Verifies the own password, required again as confirmation, against its hash.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn confirm(
        &self,
        password: Password,
        stored: String,
    ) -> Result<PasswordVerification, HashError> {
        self.run(HashPurpose::Confirm, move || {
            verify(&password, Some(&stored))
        })
        .await
    }

    /// Hashes a new password if the current one is right, otherwise returns `None`.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn replace(
        &self,
        current: Password,
        stored: String,
        new: Password,
    ) -> Result<Option<String>, HashError> {
        self.run(HashPurpose::Confirm, move || {
            match verify(&current, Some(&stored))? {
                PasswordVerification::Wrong => Ok(None),
                PasswordVerification::Right { .. } => hash(&new).map(Some),
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        purpose: HashPurpose,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let result = async {
            let permit = self.permit(purpose).await?;
            run_on_thread(STACK_BYTES, move || {
                // The thread holds the permit instead of the request, so that a client that
                // disconnects does not free it early.
                let _permit = permit;
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

    async fn permit(&self, purpose: HashPurpose) -> Result<HashPermit, HashError> {
        let began = Instant::now();
        let acquiring = async {
            // Takes the scarcer permit first, so that a task that waits for it holds no other.
            let confirmation = if purpose == HashPurpose::Confirm {
                let permits = Arc::clone(&self.confirmation_permits);
                Some(permits.acquire_owned().await?)
            } else {
                None
            };
            let permit = Arc::clone(&self.permits).acquire_owned().await?;
            Ok((confirmation, permit))
        };
        let mut acquiring = std::pin::pin!(acquiring);
        let permit = match futures_util::poll!(acquiring.as_mut()) {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                let queue_permit = self.queue_permits.try_acquire();
                let _queue_permit = queue_permit.map_err(|_| HashError::Overloaded(QUEUE_FULL))?;
                tokio::time::timeout(self.queue_timeout, acquiring)
                    .await
                    .map_err(|_| HashError::Overloaded(QUEUE_TIMEOUT))?
            }
        };
        self.metrics.waited(began.elapsed());
        permit.map_err(|error: AcquireError| defect(&error))
    }
}

/// Hashes one password at the start. It needs no permit, because the start hashes one password only.
///
/// # Errors
/// [`HashError`].
pub async fn hash_at_start(password: Password) -> Result<String, HashError> {
    run_on_thread(STACK_BYTES, move || hash(&password)).await
}

/// A lack of memory is an overload, because memory becomes available again.
fn hash_error(error: Error) -> HashError {
    match error {
        Error::OutOfMemory => HashError::Overloaded(NO_MEMORY),
        other => defect(&other),
    }
}

fn defect(error: &impl std::fmt::Display) -> HashError {
    HashError::Failed(error.to_string())
}

fn hash(password: &Password) -> Result<String, HashError> {
    ARGON2
        .hash_password(password.expose().as_bytes())
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(hash_error)
}

fn verify(password: &Password, stored: Option<&str>) -> Result<PasswordVerification, HashError> {
    let Some(stored) = stored.filter(|_| password.is_hashable()) else {
        // Hashes with a fixed salt, so that the time is the same. The result is discarded.
        let mut discarded = [0; 32];
        let bytes = &password.expose().as_bytes();
        ARGON2
            .hash_password_into(&bytes[..bytes.len().min(256)], &[0; 16], &mut discarded)
            .map_err(|error| hash_error(error.into()))?;
        return Ok(PasswordVerification::Wrong);
    };
    let stored = PasswordHash::new(stored).map_err(|error| defect(&error))?;
    match ARGON2.verify_password(password.expose().as_bytes(), &stored) {
        Ok(()) if has_current_parameters(&stored) => Ok(PasswordVerification::Right {
            upgraded_hash: None,
        }),
        Ok(()) => Ok(PasswordVerification::Right {
            upgraded_hash: Some(hash(password)?),
        }),
        Err(Error::PasswordInvalid) => Ok(PasswordVerification::Wrong),
        Err(error) => Err(hash_error(error)),
    }
}

fn has_current_parameters(stored: &PasswordHash) -> bool {
    let current = ARGON2.params();
    stored.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && stored.version == Some(Version::V0x13.into())
        && Params::try_from(stored).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (current.m_cost(), current.t_cost(), current.p_cost())
        })
}

#[cfg(test)]
mod tests {
    use super::super::metrics::IdentityMetrics;
    use super::*;
    use settings::{Layers, Reader};

    fn password(text: &str) -> Password {
        Password::for_verification(text.to_owned())
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
    fn only_the_password_matches_its_hash() {
        let stored = hash(&password("correct horse battery")).unwrap();
        let right = verify(&password("correct horse battery"), Some(&stored)).unwrap();
        assert_eq!(
            right,
            PasswordVerification::Right {
                upgraded_hash: None
            }
        );
        for (wrong, stored) in [
            ("correct horse batterz", Some(stored.as_str())),
            ("", Some(stored.as_str())),
            (&*"x".repeat(100_000), Some(stored.as_str())),
            ("correct horse battery", None),
        ] {
            assert_eq!(
                verify(&password(wrong), stored).unwrap(),
                PasswordVerification::Wrong
            );
        }
        assert!(verify(&password("x"), Some("not a hash")).is_err());
    }

    #[test]
    fn a_hash_with_older_parameters_is_upgraded() {
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
        let PasswordVerification::Right {
            upgraded_hash: Some(upgraded),
        } = verified.unwrap()
        else {
            panic!("not upgraded")
        };
        assert!(has_current_parameters(
            &PasswordHash::new(&upgraded).unwrap()
        ));
    }

    fn hasher(permits: u32, queued: u32, timeout: Duration) -> PasswordHasher {
        let mut config = crate::Config::read(&mut Reader::new(Layers::default()));
        config.max_concurrent_hashes = permits;
        config.max_queued_hashes = queued;
        config.hash_queue_timeout = timeout;
        let metrics = IdentityMetrics::register(&prometheus::Registry::new()).unwrap();
        PasswordHasher::new(&config, HashMetrics::new(&metrics))
    }

    async fn overload_reason(hasher: &PasswordHasher) -> Option<&'static str> {
        match hasher.hash(password("correct horse battery")).await {
            Err(HashError::Overloaded(reason)) => Some(reason),
            _ => None,
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_length_and_in_time() {
        let hasher = hasher(1, 1, Duration::from_millis(1));
        let held = Arc::clone(&hasher.permits).try_acquire_owned().unwrap();
        assert_eq!(overload_reason(&hasher).await, Some(QUEUE_TIMEOUT));
        let queued = Arc::clone(&hasher.queue_permits)
            .try_acquire_owned()
            .unwrap();
        assert_eq!(overload_reason(&hasher).await, Some(QUEUE_FULL));
        drop((held, queued));
        assert_eq!(overload_reason(&hasher).await, None);
    }

    #[tokio::test]
    async fn confirmations_leave_permits_for_logins() {
        let hasher = hasher(2, 0, Duration::ZERO);
        let _confirming = hasher.permit(HashPurpose::Confirm).await.unwrap();
        let second = hasher.permit(HashPurpose::Confirm).await;
        assert!(matches!(second, Err(HashError::Overloaded(QUEUE_FULL))));
        assert!(hasher.permit(HashPurpose::LogIn).await.is_ok());
    }

    #[test]
    fn memory_that_is_refused_is_an_overload_and_no_defect() {
        let kind = |error| matches!(hash_error(error), HashError::Overloaded(NO_MEMORY));
        assert!(kind(Error::OutOfMemory) && kind(argon2::Error::OutOfMemory.into()));
        assert!(!kind(Error::RngFailure));
    }
}
