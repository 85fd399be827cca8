//! Passwords that became public, from a local list (OWASP ASVS 5.0, 6.2.12).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};

use super::MIN_PASSWORD_CHARS;
use crate::hash::sha256;

/// Largest list, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A list of passwords, as the beginnings of their SHA-256. Eight bytes for each password are
/// enough: in a list of a million a wrong match has a probability of one in 18 trillion.
#[derive(Debug, Clone, Default)]
pub struct BreachedPasswords(Vec<u64>);

impl BreachedPasswords {
    /// Reads a file with one password a line. Lines that are too short for a password are skipped,
    /// because no user can choose them.
    ///
    /// # Errors
    /// The reason why the file cannot be used.
    pub fn read(path: &str) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        if size > MAX_BYTES {
            return Err(format!(
                "has {} MiB, and 64 MiB is the limit",
                size.div_ceil(1 << 20)
            ));
        }
        let mut hashes = Vec::new();
        for line in BufReader::new(file.take(MAX_BYTES)).split(b'\n') {
            let line = line.map_err(|error| format!("cannot be read: {error}"))?;
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if String::from_utf8_lossy(line).chars().count() >= MIN_PASSWORD_CHARS {
                hashes.push(beginning(line));
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes.shrink_to_fit();
        Ok(Self(hashes))
    }

    /// Whether a password is in the list.
    #[must_use]
    pub fn contains(&self, password: &str) -> bool {
        self.0
            .binary_search(&beginning(password.as_bytes()))
            .is_ok()
    }
}

fn beginning(password: &[u8]) -> u64 {
    let hash = sha256(password);
    hash.iter()
        .take(size_of::<u64>())
        .fold(0, |beginning, byte| beginning << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_list_has_one_password_a_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"short\ntrustno1 trustno1\r\nnot\xffutf-8 at all\nlast without end")
            .unwrap();
        let list = BreachedPasswords::read(file.path().to_str().unwrap()).unwrap();
        assert_eq!(list.0.len(), 3);
        assert!(list.contains("trustno1 trustno1"));
        assert!(list.contains("last without end"));
        for other in ["short", "trustno1 trustno", "Trustno1 trustno1", ""] {
            assert!(!list.contains(other), "{other}");
        }
        assert!(!BreachedPasswords::default().contains("trustno1 trustno1"));
    }

    #[test]
    fn a_list_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        let error = BreachedPasswords::read(file.path().to_str().unwrap()).unwrap_err();
        assert_eq!(error, "has 65 MiB, and 64 MiB is the limit");
        assert!(BreachedPasswords::read("/nonexistent").is_err());
    }
}
