//! Reloads secrets from their files while the process runs, so that rotating a key or a certificate
//! needs no restart.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::value::{Secret, SecretSource};

/// Polling interval. Changes take effect within 10 s.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Sources that are reloaded together, such as a certificate and its key.
pub struct WatchedFiles {
    sources: Vec<SecretSource>,
    /// Whether the last poll could read all files.
    readable: bool,
}

/// The result of one poll.
#[derive(Debug)]
pub enum FileChange {
    /// Nothing has changed.
    Same,
    /// The new contents, in the order of the sources. Each change is reported once.
    Changed(Vec<Secret>),
    /// A file cannot be read. Reported once, until it is readable again.
    Unreadable(io::Error),
}

impl WatchedFiles {
    /// Watches the files of the sources. `None` if no source is a file. The other sources keep
    /// their content.
    #[must_use]
    pub fn new(sources: Vec<SecretSource>) -> Option<Self> {
        let any = sources.iter().any(|source| source.file.is_some());
        any.then_some(Self {
            sources,
            readable: true,
        })
    }

    /// Calls `found` for every change or failure until `stop` is cancelled.
    pub async fn watch(mut self, stop: CancellationToken, mut found: impl FnMut(FileChange)) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            // Reading can block: the file may be a pipe without a writer, or on an unreachable
            // share.
            tokio::select! {
                () = stop.cancelled() => return,
                look = self.look() => match look {
                    FileChange::Same => {}
                    look => found(look),
                },
            }
        }
    }

    /// Compares contents instead of modification times: mounted secrets are swapped by symbolic
    /// links, and file systems have coarse clocks.
    pub async fn look(&mut self) -> FileChange {
        let mut contents = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            contents.push(match &source.file {
                None => source.content.clone(),
                Some(file) => match tokio::fs::read_to_string(file).await {
                    // Trimmed the same way as by the configuration.
                    Ok(text) => Secret::from(text.trim_end()),
                    Err(error) => {
                        let already_reported = !std::mem::replace(&mut self.readable, false);
                        return if already_reported {
                            FileChange::Same
                        } else {
                            FileChange::Unreadable(error)
                        };
                    }
                },
            });
        }
        self.readable = true;
        let mut changed = false;
        for (source, content) in self.sources.iter_mut().zip(&contents) {
            if source.content.expose() != content.expose() {
                source.content = content.clone();
                changed = true;
            }
        }
        if changed {
            FileChange::Changed(contents)
        } else {
            FileChange::Same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{RawValue, Setting as _};

    fn source(text: &str, file: Option<std::path::PathBuf>) -> SecretSource {
        let text = text.to_owned();
        SecretSource::parse(&RawValue { text, file }).unwrap()
    }

    #[test]
    fn sources_without_a_file_are_not_watched() {
        assert!(WatchedFiles::new(vec![source("a", None), source("b", None)]).is_none());
    }

    #[tokio::test]
    async fn every_change_of_the_files_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("first\n");
        let sources = vec![source("first", Some(path.clone())), source("inline", None)];
        let mut files = WatchedFiles::new(sources).unwrap();
        assert!(matches!(files.look().await, FileChange::Same));

        write("second\n");
        let FileChange::Changed(contents) = files.look().await else {
            panic!("the change was not seen")
        };
        let contents: Vec<_> = contents.iter().map(Secret::expose).collect();
        assert_eq!(contents, ["second", "inline"]);
        assert!(matches!(files.look().await, FileChange::Same));

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(files.look().await, FileChange::Unreadable(_)));
        assert!(matches!(files.look().await, FileChange::Same));
        write("second");
        assert!(matches!(files.look().await, FileChange::Same));
    }
}
