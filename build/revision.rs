// Reads the revision of the sources from the files of the git checkout (gitrepository-layout(5)),
// so that the git program need not be installed. Compiled into the build script and into its tests.

use std::fs;
use std::path::{Path, PathBuf};

/// The revision, and the files whose change may change it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) revision: Option<String>,
    pub(crate) depends_on: Vec<PathBuf>,
}

/// Returns the commit that is checked out in `folder` or in the nearest folder above it with a
/// checkout.
pub(crate) fn of_checkout(folder: &Path) -> Found {
    let mut found = Found::default();
    found.revision = find(folder, &mut found.depends_on);
    // Cargo treats a missing file as changed at every build.
    found.depends_on.retain(|path| path.exists());
    found
}

fn find(folder: &Path, read: &mut Vec<PathBuf>) -> Option<String> {
    let git = folder
        .ancestors()
        .map(|above| above.join(".git"))
        .find(|git| git.exists())?;
    let own = if git.is_dir() {
        git
    } else {
        // In a worktree or a submodule the file contains the path of the folder.
        read.push(git.clone());
        let text = fs::read_to_string(&git).ok()?;
        let target = text.strip_prefix("gitdir:")?.trim();
        git.parent()?.join(target)
    };
    // Worktrees share the branches of their repository.
    let common = match fs::read_to_string(own.join("commondir")) {
        Ok(text) => own.join(text.trim()),
        Err(_) => own.clone(),
    };
    let head = own.join("HEAD");
    read.push(head.clone());
    let head = fs::read_to_string(head).ok()?;
    let Some(name) = head.trim().strip_prefix("ref:") else {
        return commit(&head);
    };
    let name = name.trim();
    let loose = common.join(name);
    let packed = common.join("packed-refs");
    // A packed branch gets a file of its own when it moves. The log of HEAD changes then. Without
    // the log, the folder changes, but also when other branches move.
    let log = own.join("logs/HEAD");
    read.extend(if log.exists() {
        Some(log)
    } else {
        loose.parent().map(Path::to_owned)
    });
    if let Ok(text) = fs::read_to_string(&loose) {
        read.push(loose);
        return commit(&text);
    }
    read.push(packed.clone());
    let packed = fs::read_to_string(packed).ok()?;
    let of_branch = packed
        .lines()
        .find(|line| line.split_once(' ').is_some_and(|(_, found)| found == name))?;
    commit(of_branch.split(' ').next()?)
}

/// A commit id: SHA-1 or SHA-256 in hexadecimal digits.
fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let is_commit =
        matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| text.to_owned())
}
