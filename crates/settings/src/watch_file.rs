//! Secrets whose files are read again while the process runs, so that rotating a
//! key or a certificate needs no restart.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::value::{Secret, SecretSource};

/// How often files are looked at; a change counts within 10 s.
const LOOK: Duration = Duration::from_secs(2);

/// One or more sources that belong together, such as a certificate and its key.
pub struct WatchedFiles {
    sources: Vec<SecretSource>,
    /// Whether the last look could read all of them.
    readable: bool,
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Look {
    /// What was there before.
    Same,
    /// Other contents, in the order of the sources; each state is told once.
    Changed(Vec<Secret>),
    /// A file that cannot be read; told once, until it can be again.
    Unreadable(io::Error),
}

impl WatchedFiles {
    /// Watches the files of these sources; `None` when none came from a file. A
    /// source that did not keeps the content that it has.
    #[must_use]
    pub fn new(sources: Vec<SecretSource>) -> Option<Self> {
        let any = sources.iter().any(|source| source.file.is_some());
        any.then_some(Self {
            sources,
            readable: true,
        })
    }

    /// Calls `found` for every look that found something new, until `stop`.
    pub async fn watch(mut self, stop: CancellationToken, mut found: impl FnMut(Look)) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            // A file may be a pipe that nobody writes to, or lie on a share that is gone.
            tokio::select! {
                () = stop.cancelled() => return,
                look = self.look() => match look {
                    Look::Same => {}
                    look => found(look),
                },
            }
        }
    }

    /// Reads whole files rather than asking for their age: mounted secrets are
    /// swapped by symbolic links, and clocks of file systems are coarse.
    pub async fn look(&mut self) -> Look {
        let mut contents = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            contents.push(match &source.file {
                None => source.content.clone(),
                Some(file) => match tokio::fs::read_to_string(file).await {
                    // As the configuration reads it.
                    Ok(text) => Secret::from(text.trim_end()),
                    Err(error) => {
                        let told = !std::mem::replace(&mut self.readable, false);
                        return if told {
                            Look::Same
                        } else {
                            Look::Unreadable(error)
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
            Look::Changed(contents)
        } else {
            Look::Same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Raw, Setting as _};

    fn source(text: &str, file: Option<std::path::PathBuf>) -> SecretSource {
        let text = text.to_owned();
        SecretSource::parse(&Raw { text, file }).unwrap()
    }

    #[test]
    fn sources_without_a_file_are_not_watched() {
        assert!(WatchedFiles::new(vec![source("a", None), source("b", None)]).is_none());
    }

    #[tokio::test]
    async fn every_state_of_the_files_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("first\n");
        let sources = vec![source("first", Some(path.clone())), source("inline", None)];
        let mut files = WatchedFiles::new(sources).unwrap();
        assert!(matches!(files.look().await, Look::Same));

        write("second\n");
        let Look::Changed(contents) = files.look().await else {
            panic!("the change was not seen")
        };
        let contents: Vec<_> = contents.iter().map(Secret::expose).collect();
        assert_eq!(contents, ["second", "inline"]);
        assert!(matches!(files.look().await, Look::Same));

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(files.look().await, Look::Unreadable(_)));
        assert!(matches!(files.look().await, Look::Same));
        write("second");
        assert!(matches!(files.look().await, Look::Same));
    }
}
