//! The first build reports missing programs before it starts.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `scripts/build-needs` as on a machine with these programs and without an earlier build.
fn needs(programs: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for program in programs {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(program))
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("{program} is on this machine"));
        std::os::unix::fs::symlink(found, folder.path().join(program)).unwrap();
    }
    Command::new("scripts/build-needs")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", folder.path())
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .env_remove("CC")
        .output()
        .unwrap()
}

const SHELL: [&str; 5] = ["env", "bash", "cat", "dirname", "sed"];

#[test]
fn missing_programs_are_reported_before_a_build() {
    let bare = needs(&SHELL);
    let text = String::from_utf8(bare.stderr).unwrap();
    assert_eq!(bare.status.code(), Some(1), "{text}");
    for word in ["Rust (cargo)", "make, for", "C compiler (cc)"] {
        let lines = text.lines().filter(|line| line.contains(word));
        assert_eq!(lines.count(), 1, "{word}:\n{text}");
    }
}

#[test]
fn a_first_build_reports_its_duration() {
    let all = needs(&[&SHELL[..], &["cargo", "make", "cc"]].concat());
    let text = String::from_utf8(all.stderr).unwrap();
    assert_eq!(all.status.code(), Some(0), "{text}");
    assert!(text.contains("minutes on two cores"), "{text}");
}

#[test]
fn every_building_target_checks_first_and_shows_progress() {
    for target in ["run", "demo", "test", "bench"] {
        let recipe = Command::new("make")
            .args(["--dry-run", "--no-print-directory", target])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .output()
            .unwrap();
        let text = String::from_utf8(recipe.stdout).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("scripts/build-needs"), "make {target}");
        let build = lines.next().unwrap();
        assert!(!build.contains("--quiet"), "make {target}: {build}");
    }
}
