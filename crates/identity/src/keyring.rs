//! The keys in use. Keys from a file are replaced while the process runs when the file changes, so
//! that a rotation needs no restart.

use std::sync::{Arc, PoisonError, RwLock};

use lifecycle::Lifecycle;
use settings::{FileChange, SecretSource, WatchedFiles};

use crate::Config;
use crate::keys::KeySet;

/// The present key set. Clones share it and are cheap.
#[derive(Clone)]
pub struct Keyring {
    present: Arc<RwLock<Arc<Generation>>>,
    /// File or text from which the keys came. `None` if they were generated.
    source: Option<SecretSource>,
}

/// A key set with a number that distinguishes it from its predecessors.
#[derive(Debug)]
pub struct Generation {
    /// Number of replacements before this set.
    pub number: u64,
    /// The keys.
    pub keys: KeySet,
}

impl Keyring {
    /// Parses the configured keys. Without configured keys (development) it generates a set.
    ///
    /// # Errors
    /// If the configured keys are not valid, or keys cannot be generated.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let (keys, source) = if let Some(source) = &config.keys {
            let keys = KeySet::parse(source.content.expose())?;
            (keys, Some(source.clone()))
        } else {
            tracing::warn!(
                "auth.keys is not set: tokens are signed with a generated key and end with this process"
            );
            (KeySet::parse(&KeySet::generate()?)?, None)
        };
        let generation = Generation { number: 0, keys };
        Ok(Self {
            present: Arc::new(RwLock::new(Arc::new(generation))),
            source,
        })
    }

    /// The present keys.
    #[must_use]
    pub fn present(&self) -> Arc<Generation> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, keys: KeySet) {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let number = present.number + 1;
        *present = Arc::new(Generation { number, keys });
    }

    /// Watches the key file, if there is one. If its new content is not valid, the old keys stay.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let Some(files) = self.source.clone().and_then(|s| WatchedFiles::new(vec![s])) else {
            return;
        };
        let (keyring, stop) = (self.clone(), lifecycle.soft());
        lifecycle.spawn(
            "key file watch",
            files.watch(stop, move |look| keyring.take(look)),
        );
    }

    fn take(&self, look: FileChange) {
        match look {
            FileChange::Same => {}
            FileChange::Changed(contents) => {
                let text = contents.first().map_or("", |content| content.expose());
                match KeySet::parse(text) {
                    Ok(keys) => {
                        tracing::info!(signing_kid = keys.signing().kid, "keys replaced");
                        self.replace(keys);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the key file is broken; the old keys stay");
                    }
                }
            }
            FileChange::Unreadable(error) => {
                tracing::warn!(%error, "the key file cannot be read; the old keys stay");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::Secret;

    #[test]
    fn a_changed_file_replaces_the_keys_and_a_broken_one_does_not() {
        let keys = KeySet::parse(&KeySet::generate().unwrap()).unwrap();
        let ring = Keyring {
            present: Arc::new(RwLock::new(Arc::new(Generation { number: 0, keys }))),
            source: None,
        };
        let state = || {
            let present = ring.present();
            (present.keys.signing().kid.clone(), present.number)
        };
        let old = state();
        ring.take(FileChange::Unreadable(std::io::ErrorKind::NotFound.into()));
        ring.take(FileChange::Changed(vec![Secret::from("{\"keys\": [")]));
        assert_eq!(state(), old);

        let second = KeySet::generate().unwrap();
        ring.take(FileChange::Changed(vec![Secret::from(second.as_str())]));
        let new = state();
        assert_ne!(new.0, old.0);
        assert_eq!(new.1, 1);
    }
}
