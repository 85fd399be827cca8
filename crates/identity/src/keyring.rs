//! The signing keys in use. If the keys come from a file and the file changes, they are replaced
//! while the process runs. A rotation of the keys needs no restart.

use std::sync::{Arc, PoisonError, RwLock};

use lifecycle::Lifecycle;
use settings::{FileChange, SecretSource, WatchedFiles};

use crate::Config;
use crate::signing_keys::SigningKeySet;

/// The current key set. Clones share it and are cheap.
#[derive(Clone)]
pub struct Keyring {
    current: Arc<RwLock<Arc<KeyGeneration>>>,
    /// File or text from which the keys came. `None` if they were generated.
    source: Option<SecretSource>,
}

/// A key set with a number that distinguishes it from its predecessors.
#[derive(Debug)]
pub struct KeyGeneration {
    /// Number of replacements before this set.
    pub number: u64,
    /// The keys.
    pub keys: SigningKeySet,
}

impl Keyring {
    /// Parses the configured keys. Without configured keys (development) it generates a set.
    ///
    /// # Errors
    /// If the configured keys are not valid, or keys cannot be generated.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let (keys, source) = if let Some(source) = &config.keys {
            let keys = SigningKeySet::parse(source.content.expose())?;
            (keys, Some(source.clone()))
        } else {
            tracing::warn!(
                "auth.keys is not set; access tokens are signed with a generated key and are invalid after a restart"
            );
            (SigningKeySet::parse(&SigningKeySet::generate()?)?, None)
        };
        let generation = KeyGeneration { number: 0, keys };
        Ok(Self {
            current: Arc::new(RwLock::new(Arc::new(generation))),
            source,
        })
    }

    /// The current keys.
    #[must_use]
    pub fn current(&self) -> Arc<KeyGeneration> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, keys: SigningKeySet) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let number = current.number + 1;
        *current = Arc::new(KeyGeneration { number, keys });
    }

    /// Watches the key file, if there is one. If its new content is not valid, the old keys stay.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let Some(files) = self.source.clone().and_then(|s| WatchedFiles::new(vec![s])) else {
            return;
        };
        let (keyring, stop) = (self.clone(), lifecycle.soft());
        lifecycle.spawn(
            "key file watch",
            files.watch(stop, move |change| keyring.apply(change)),
        );
    }

    fn apply(&self, change: FileChange) {
        match change {
            FileChange::Same => {}
            FileChange::Changed(contents) => {
                let text = contents.first().map_or("", |content| content.expose());
                match SigningKeySet::parse(text) {
                    Ok(keys) => {
                        tracing::info!(
                            signing_kid = keys.signing_key().kid,
                            "the signing keys were replaced"
                        );
                        self.replace(keys);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the key file is not valid; the previous keys stay in use");
                    }
                }
            }
            FileChange::Unreadable(error) => {
                tracing::warn!(%error, "the key file cannot be read; the previous keys stay in use");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::Secret;

    #[test]
    fn a_changed_file_replaces_the_keys_and_an_invalid_one_does_not() {
        let keys = SigningKeySet::parse(&SigningKeySet::generate().unwrap()).unwrap();
        let ring = Keyring {
            current: Arc::new(RwLock::new(Arc::new(KeyGeneration { number: 0, keys }))),
            source: None,
        };
        let state = || {
            let current = ring.current();
            (current.keys.signing_key().kid.clone(), current.number)
        };
        let old = state();
        ring.apply(FileChange::Unreadable(std::io::ErrorKind::NotFound.into()));
        ring.apply(FileChange::Changed(vec![Secret::from("{\"keys\": [")]));
        assert_eq!(state(), old);

        let second = SigningKeySet::generate().unwrap();
        ring.apply(FileChange::Changed(vec![Secret::from(second.as_str())]));
        let new = state();
        assert_ne!(new.0, old.0);
        assert_eq!(new.1, 1);
    }
}
