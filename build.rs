//! Provides the compiler's version, the revision of the sources, the runbooks for the admin
//! listener and the targets that a log filter can name. The code has no other way to read them.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "build scripts communicate with cargo through the environment and standard output"
)]

#[path = "build/revision.rs"]
mod revision;

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    // Cargo sets it for every build script.
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(compiler).arg("--version").output();
    let version = asked
        .ok()
        .and_then(|answer| String::from_utf8(answer.stdout).ok())
        .and_then(|text| Some(text.strip_prefix("rustc ")?.trim().to_owned()));
    let version = version.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=BUILD_RUSTC={version}");
    println!("cargo::rustc-env=BUILD_REVISION={}", revision());
    list_runbooks().expect("docs/runbooks is part of the sources");
    list_targets().expect("the sources can be read");
}

/// The revision: `BUILD_REVISION` if it is set, else the commit that is checked out, else
/// `unknown`.
fn revision() -> String {
    println!("cargo::rerun-if-env-changed=BUILD_REVISION");
    let told = std::env::var("BUILD_REVISION").unwrap_or_default();
    if !told.trim().is_empty() {
        return told.split_whitespace().collect();
    }
    let found = revision::of_checkout(Path::new(env!("CARGO_MANIFEST_DIR")));
    for path in found.depends_on {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    found.revision.unwrap_or_else(|| "unknown".to_owned())
}

/// Writes the runbooks as a Rust expression: file names with their text.
fn list_runbooks() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    let lines = pages.iter().filter_map(|path| {
        let (name, path) = (path.file_name()?.to_str()?, path.to_str()?);
        Some(format!("({name:?}, include_str!({path:?})),\n"))
    });
    let out = std::env::var_os("OUT_DIR").unwrap_or_default();
    let text = format!("&[\n{}]\n", lines.collect::<String>());
    std::fs::write(Path::new(&out).join("runbooks.rs"), text)
}

/// Writes the targets of log lines as two slices. One has the modules of the service and its
/// crates. The other has the packages of `Cargo.lock`, because their log lines have the package
/// name as target.
fn list_targets() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut modules = Vec::new();
    let own = env!("CARGO_PKG_NAME").replace('-', "_");
    let mut sources = vec![(own, root.join("src"))];
    for entry in std::fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        sources.push((name.replace('-', "_"), folder.join("src")));
    }
    for (name, folder) in sources {
        println!("cargo::rerun-if-changed={}", folder.display());
        list_modules(&folder, &name, &mut modules)?;
        modules.push(name);
    }
    modules.sort();
    let lock = root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let mut packages = Vec::new();
    for line in std::fs::read_to_string(lock)?.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            packages.push(name.trim_matches('"').replace('-', "_"));
        }
    }
    packages.dedup();
    let out = std::env::var_os("OUT_DIR").unwrap_or_default();
    let text = format!(
        "const MODULES: &[&str] = &{modules:?};\nconst PACKAGES: &[&str] = &{packages:?};\n"
    );
    std::fs::write(Path::new(&out).join("targets.rs"), text)
}

fn list_modules(folder: &Path, above: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let module = format!("{above}::{name}");
        if path.is_dir() {
            list_modules(&path, &module, found)?;
            found.push(module);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["mod", "lib", "main"].contains(&name)
        {
            found.push(module);
        }
    }
    Ok(())
}
