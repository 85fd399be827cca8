//! The revision that the build script reads, compared with git.

use std::path::Path;
use std::process::Command;

use crate::support::{Backend, Service};

#[path = "../../build/revision.rs"]
mod checkout;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(folder: &Path) -> String {
    git(folder, &["commit", "--quiet", "--allow-empty", "-m", "one"]);
    git(folder, &["rev-parse", "HEAD"])
}

/// Reads the revision and checks that the build script watches a file that changes with it.
fn found(folder: &Path) -> Option<String> {
    let found = checkout::of_checkout(folder);
    assert!(found.depends_on.iter().all(|path| path.exists()));
    assert!(found.revision.is_none() || !found.depends_on.is_empty());
    found.revision
}

#[test]
fn the_revision_is_read_from_every_form_of_checkout() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main");
    std::fs::create_dir(&main).unwrap();
    assert_eq!(found(&main), None, "no checkout");
    git(&main, &["init", "--quiet", "--initial-branch=trunk"]);
    assert_eq!(found(&main), None, "no commit");

    let first = commit(&main);
    assert_eq!(found(&main), Some(first.clone()), "a branch");
    let below = main.join("crates/one");
    std::fs::create_dir_all(&below).unwrap();
    assert_eq!(found(&below), Some(first.clone()), "a folder of it");

    git(&main, &["pack-refs", "--all"]);
    assert!(!main.join(".git/refs/heads/trunk").exists());
    assert_eq!(found(&main), Some(first.clone()), "packed");
    let second = commit(&main);
    assert_eq!(found(&main), Some(second.clone()), "packed and moved");

    git(
        &main,
        &["worktree", "add", "--quiet", "-b", "a/b", "../tree"],
    );
    let tree = folder.path().join("tree");
    assert_eq!(found(&tree), Some(second.clone()), "a worktree");
    let third = commit(&tree);
    assert_eq!(found(&tree), Some(third.clone()), "its own branch");
    assert_eq!(found(&main), Some(second), "not the other's");
    git(&tree, &["pack-refs", "--all"]);
    assert_eq!(found(&tree), Some(third), "its own, packed");

    git(&main, &["checkout", "--quiet", "--detach", &first]);
    assert_eq!(found(&main), Some(first), "detached");
    std::fs::write(main.join(".git/HEAD"), "ref: refs/heads/.invalid").unwrap();
    assert_eq!(found(&main), None, "a format that is not known");
}

#[test]
fn a_commit_changes_a_watched_file() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    commit(folder.path());
    for packed in [false, true] {
        if packed {
            git(folder.path(), &["pack-refs", "--all"]);
        }
        let state = || {
            let paths = checkout::of_checkout(folder.path()).depends_on;
            let content = paths.iter().map(|path| std::fs::read(path).ok());
            (content.collect::<Vec<_>>(), paths)
        };
        let (before, paths) = state();
        git(
            folder.path(),
            &["commit", "--quiet", "--allow-empty", "-m", "two"],
        );
        let after: Vec<_> = paths.iter().map(|path| std::fs::read(path).ok()).collect();
        assert_ne!(before, after, "packed: {packed}");
    }
}

#[tokio::test]
async fn the_binary_reports_the_revision_of_its_checkout() {
    let expected = checkout::of_checkout(Path::new(env!("CARGO_MANIFEST_DIR"))).revision;
    // A revision that is passed to the build has precedence.
    let given = std::env::var("BUILD_REVISION").ok();
    let expected = given.filter(|given| !given.is_empty()).or(expected);
    let expected = expected.unwrap_or_else(|| "unknown".to_owned());
    let service = Service::start(Backend::Sqlite).await;
    let info = crate::admin::get(&service, "/info").await.body;
    assert_eq!(info["revision"], expected);
    let metrics = service.metrics().await;
    let labels = [("revision", &*expected)];
    assert_eq!(metrics.get("build_info", &labels), Some(1.0));
}
