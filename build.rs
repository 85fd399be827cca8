//! Remembers the compiler's version, which the code cannot ask for.

// A build script talks to cargo by its environment and its standard output.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo sets it for every build script.
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(compiler).arg("--version").output();
    let version = asked
        .ok()
        .and_then(|answer| String::from_utf8(answer.stdout).ok())
        .and_then(|text| Some(text.strip_prefix("rustc ")?.trim().to_owned()));
    let version = version.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=BUILD_RUSTC={version}");
}
