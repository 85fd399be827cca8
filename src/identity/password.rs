//! Password hashing: Argon2id (RFC 9106), off the async threads, a few at a time.

use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use super::domain::Password;

/// OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static ARGON2: LazyLock<Argon2<'static>> = LazyLock::new(|| {
    // The constants above lie inside every bound of `Params`; a test holds that.
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
});

/// Why a password was neither hashed nor compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// As many as allowed are at work already.
    #[error("too many password hashes at once")]
    Overloaded,
    /// A defect: a stored hash that cannot be read, no randomness, a panic.
    #[error("password hashing failed: {0}")]
    Failed(String),
}

/// What comparing a password with a stored hash found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verified {
    /// Another password.
    Wrong,
    /// The password.
    Right {
        /// The password hashed with today's parameters, when the stored hash has others.
        rehashed: Option<String>,
    },
}

/// Hashes passwords, so many at the same time; each takes 19 MiB while it runs.
#[derive(Clone)]
pub struct Hasher {
    permits: Arc<Semaphore>,
}

impl Hasher {
    /// A hasher for so many hashes at once.
    #[must_use]
    pub fn new(max_concurrent: u32) -> Self {
        let permits = usize::try_from(max_concurrent).unwrap_or(usize::MAX);
        Self {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Hashes a password with a fresh salt, as a PHC string.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        self.run(move || hash(&password)).await
    }

    /// Compares a password with a stored hash. Without one (an unknown user) it
    /// works as long and finds it wrong.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
    ) -> Result<Verified, HashError> {
        self.run(move || verify(&password, stored.as_deref())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| HashError::Overloaded)?;
        tokio::task::spawn_blocking(move || {
            // Held by the work, not by the request: a client that leaves frees nothing early.
            let _permit = permit;
            work()
        })
        .await
        .map_err(|error| HashError::Failed(error.to_string()))?
    }
}

fn failed(error: &impl std::fmt::Display) -> HashError {
    HashError::Failed(error.to_string())
}

fn hash(password: &Password) -> Result<String, HashError> {
    ARGON2
        .hash_password(password.expose().as_bytes())
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(|error| failed(&error))
}

fn verify(password: &Password, stored: Option<&str>) -> Result<Verified, HashError> {
    let Some(stored) = stored.filter(|_| password.is_hashable()) else {
        // The same work on a fixed salt; what comes out is thrown away.
        let mut discarded = [0; 32];
        let bytes = &password.expose().as_bytes();
        ARGON2
            .hash_password_into(&bytes[..bytes.len().min(256)], &[0; 16], &mut discarded)
            .map_err(|error| failed(&error))?;
        return Ok(Verified::Wrong);
    };
    let stored = PasswordHash::new(stored).map_err(|error| failed(&error))?;
    match ARGON2.verify_password(password.expose().as_bytes(), &stored) {
        Ok(()) if is_current(&stored) => Ok(Verified::Right { rehashed: None }),
        Ok(()) => Ok(Verified::Right {
            rehashed: Some(hash(password)?),
        }),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verified::Wrong),
        Err(error) => Err(failed(&error)),
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
    use super::*;

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

    #[tokio::test]
    async fn beyond_the_limit_hashing_is_refused_at_once() {
        let hasher = Hasher::new(1);
        let _held = Arc::clone(&hasher.permits).try_acquire_owned().unwrap();
        let refused = hasher.hash(password("correct horse battery")).await;
        assert!(matches!(refused, Err(HashError::Overloaded)));
    }
}
