//! The keys in use. When they came from a file, the file is read again while the
//! process runs, so that rotating keys needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::platform::auth::Config;
use crate::platform::auth::keys::KeySet;
use crate::platform::lifecycle::Lifecycle;

/// How often the file is looked at; a change counts within 10 s.
const LOOK: Duration = Duration::from_secs(2);

/// The present key set; cheap to clone, the same for all clones.
#[derive(Clone)]
pub struct Keyring {
    present: Arc<RwLock<Arc<Generation>>>,
    /// Where the keys came from, and what stood there.
    source: Option<(PathBuf, Arc<str>)>,
}

/// A key set, and a number that tells it from those before it.
#[derive(Debug)]
pub struct Generation {
    /// Counts replacements.
    pub number: u64,
    /// The keys.
    pub keys: KeySet,
}

impl Keyring {
    /// The configured keys, or a fresh one where none are (development).
    ///
    /// # Errors
    /// When the keys cannot be read, or none be made.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let (keys, source) = if let Some(source) = &config.keys {
            let content = source.content.expose();
            let file = source.file.clone();
            let source = file.map(|path| (path, Arc::from(content)));
            (KeySet::parse(content)?, source)
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

    /// The keys of this moment.
    #[must_use]
    pub fn present(&self) -> Arc<Generation> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, keys: KeySet) {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let number = present.number + 1;
        *present = Arc::new(Generation { number, keys });
    }

    /// Watches the file, when there is one. A broken file keeps the old keys.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let Some((path, read)) = self.source.clone() else {
            return;
        };
        let (keyring, stop) = (self.clone(), lifecycle.soft());
        lifecycle.spawn("key file watch", async move {
            // What was seen last, so that each state of the file is reported once.
            let mut seen = Some(read);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
                keyring.look(&path, &mut seen).await;
            }
        });
    }

    async fn look(&self, path: &Path, seen: &mut Option<Arc<str>>) {
        // Read whole rather than asked for its age: mounted secrets are swapped by
        // symbolic links, and clocks of file systems are coarse.
        let found = tokio::fs::read_to_string(path).await;
        match found {
            Ok(text) if seen.as_deref() == Some(&*text) => {}
            Ok(text) => {
                match KeySet::parse(&text) {
                    Ok(keys) => {
                        tracing::info!(signing_kid = keys.signing().kid, "keys replaced");
                        self.replace(keys);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the key file is broken; the old keys stay");
                    }
                }
                *seen = Some(text.into());
            }
            Err(error) => {
                if seen.take().is_some() {
                    tracing::warn!(%error, "the key file cannot be read; the old keys stay");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::settings::{Raw, SecretSource, Setting as _};

    fn keyring(content: &str) -> Keyring {
        let keys = KeySet::parse(content).unwrap();
        Keyring {
            present: Arc::new(RwLock::new(Arc::new(Generation { number: 0, keys }))),
            source: None,
        }
    }

    #[test]
    fn a_source_without_a_file_is_not_watched() {
        let content = KeySet::generate().unwrap();
        let source = SecretSource::parse(&Raw::text(&content)).unwrap();
        assert!(source.file.is_none());
    }

    #[tokio::test]
    async fn a_changed_file_replaces_the_keys_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let first = KeySet::generate().unwrap();
        let ring = keyring(&first);
        let mut seen = Some(Arc::from(first.as_str()));
        let kid = |ring: &Keyring| ring.present().keys.signing().kid.clone();
        let old = kid(&ring);

        ring.look(&path, &mut seen).await;
        assert_eq!(kid(&ring), old, "a file that is gone");
        tokio::fs::write(&path, "{\"keys\": [").await.unwrap();
        ring.look(&path, &mut seen).await;
        assert_eq!((kid(&ring), ring.present().number), (old.clone(), 0));

        let second = KeySet::generate().unwrap();
        tokio::fs::write(&path, &second).await.unwrap();
        ring.look(&path, &mut seen).await;
        assert_ne!(kid(&ring), old);
        assert_eq!(ring.present().number, 1);
        ring.look(&path, &mut seen).await;
        assert_eq!(ring.present().number, 1, "the same file is one change");
    }
}
