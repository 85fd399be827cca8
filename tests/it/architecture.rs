//! Architecture rules, checked against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files with an extension in a folder and below.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found
}

/// Sources of the service and of identity, whose slice is like those of the service,
/// without unit tests and comments: path below `src`, or below `crates`, and text.
fn sources() -> Vec<(String, String)> {
    let mut found = sources_below(&root().join("src"));
    let identity = sources_below(&root().join("crates/identity/src"));
    found.extend(
        identity
            .into_iter()
            .map(|(path, code)| (format!("identity/{path}"), code)),
    );
    found
}

fn sources_below(folder: &Path) -> Vec<(String, String)> {
    files(folder, "rs")
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap_or_default();
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            (name, lines.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

/// Name and folder of the library crates.
fn crates() -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let named = folders.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named.collect()
}

/// Asserts that sources whose path matches do not contain any of the words.
fn forbid(because: &str, applies: impl Fn(&str) -> bool, words: &[&str]) {
    let mut seen = 0;
    for (path, code) in sources().iter().filter(|(path, _)| applies(path)) {
        seen += 1;
        for word in words {
            assert!(!code.contains(word), "src/{path} has `{word}`: {because}");
        }
    }
    assert!(seen > 0, "the rule applies to no file: {because}");
}

#[test]
fn crates_contain_no_word_of_the_example_application() {
    // Words of the slices under `src/app` that are not used in other fields.
    let words = ["ledger", "transfer", "deposit", "currency"];
    for (name, folder) in crates() {
        for (path, code) in sources_below(&folder) {
            // HTTP has transfer codings (RFC 9112, section 7).
            let code = code.to_lowercase().replace("transfer-encoding", "");
            let code = code
                .replace("transfer_coding", "")
                .replace("transfer coding", "")
                .replace("concurrency", "");
            for word in words {
                assert!(!code.contains(word), "{name}/{path} has `{word}`");
            }
        }
    }
}

/// The first names behind `crate::`, also those in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // A macro's paths are those of the place where it is used.
    let code = code.replace("$crate::", "");
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(first_name(rest));
            continue;
        };
        let mut depth = 0;
        let members = group.split(|next: char| {
            depth += i32::from(next == '{') - i32::from(next == '}');
            next == ',' && depth == 0 || depth < 0
        });
        let end = group.find("};").unwrap_or(group.len());
        let length = |member: &&str| member.as_ptr() as usize - group.as_ptr() as usize <= end;
        found.extend(
            members
                .take_while(length)
                .map(|member| first_name(member.trim())),
        );
    }
    found.remove("");
    found
}

fn first_name(text: &str) -> String {
    let end = text.find(|next: char| !next.is_alphanumeric() && next != '_');
    text[..end.unwrap_or(text.len())].to_owned()
}

/// The names that the page of a crate exports, each with its module.
fn exported(page: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for statement in page.split("pub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let module = first_name(statement);
        let names = statement.split(|next: char| !next.is_alphanumeric() && next != '_');
        found.extend(names.map(|name| (name.to_owned(), module.clone())));
    }
    found
}

#[test]
fn cores_know_no_protocol() {
    let protocols = ["http", "hyper", "axum", "tower", "tonic"];
    for core in [
        "settings",
        "lifecycle",
        "request",
        "limits",
        "db",
        "workers",
    ] {
        let manifest = root().join("crates").join(core).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        for line in manifest.lines() {
            let dependency = first_name(line);
            assert!(
                !protocols.contains(&dependency.as_str()),
                "{core} depends on {dependency}"
            );
        }
    }
}

#[test]
fn modules_inside_a_crate_have_no_cycle() {
    for (name, folder) in crates() {
        let page = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        let exported = exported(&page);
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, code) in sources_below(&folder.join("src")) {
            let module = path.split(['/', '.']).next().unwrap().to_owned();
            if module == "lib" {
                continue;
            }
            // In these files, one level up is the crate root.
            let is_top = !path.contains('/') || path == format!("{module}/mod.rs");
            let code = if is_top {
                code.replace("super::", "crate::")
            } else {
                code
            };
            let found = imports(&code).into_iter();
            let found = found.map(|name| exported.get(&name).cloned().unwrap_or(name));
            let imports = uses.entry(module.clone()).or_default();
            imports.extend(found.filter(|other| *other != module));
        }
        // Removes modules without remaining imports, repeatedly. Only cycles remain.
        while let Some(last) = uses
            .iter()
            .find(|(_, used)| used.iter().all(|other| !uses.contains_key(other)))
            .map(|(module, _)| module.clone())
        {
            uses.remove(&last);
        }
        assert!(uses.is_empty(), "{name}: modules use each other: {uses:?}");
    }
}

#[test]
fn the_page_of_every_crate_has_an_example_that_is_compiled() {
    for (name, folder) in crates() {
        let page = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        assert!(page.lines().any(|line| line == "//! ```"), "{name}");
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("doctest = false"), "{name}");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}");
    }
}

#[test]
fn domain_files_import_no_framework() {
    let is_domain = |path: &str| path.ends_with("/domain.rs") || path.contains("/domain/");
    forbid(
        "a domain is plain rules",
        is_domain,
        &[
            "axum",
            "sqlx",
            "tonic",
            "utoipa",
            "use http::",
            "http_server",
        ],
    );
}

#[test]
fn database_drivers_are_named_in_store_modules_only() {
    let elsewhere = |path: &str| {
        !path.ends_with("store/sqlite.rs")
            && !path.ends_with("store/postgres.rs")
            && !path.contains("store/sqlite/")
            && !path.contains("store/postgres/")
            && !path.ends_with("store/mod.rs")
            && path != "app/mod.rs"
    };
    let words = [
        "sqlx::query",
        "SqlitePool",
        "PgPool",
        "sqlx::Sqlite",
        "sqlx::Postgres",
        "Database::Sqlite",
    ];
    forbid("backends stay behind the store traits", elsewhere, &words);
}

#[test]
fn slices_are_combined_in_the_application_only() {
    let in_slice = |path: &str| path.starts_with("app/") && path != "app/mod.rs";
    for (path, code) in sources().iter().filter(|(path, _)| in_slice(path)) {
        let own = path.split(['/', '.']).nth(1).unwrap();
        for (position, _) in code.match_indices("crate::app::") {
            let rest = &code[position + "crate::app::".len()..];
            assert!(
                rest.starts_with(own),
                "src/{path} reaches into another slice: {rest:.40}"
            );
        }
    }
}

#[test]
fn the_projects_name_stands_only_where_the_template_says() {
    let name = env!("CARGO_PKG_NAME");
    let listed = std::fs::read_to_string(root().join("template/names.txt")).unwrap();
    let listed: Vec<&str> = listed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let tracked = std::process::Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let tracked = String::from_utf8(tracked.stdout).unwrap();
    let mut found = Vec::new();
    for path in tracked.split('\0').filter(|path| !path.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root().join(path)) else {
            continue;
        };
        if text.to_lowercase().contains(name) {
            found.push(path);
        }
    }
    let is_listed = |path: &str| {
        listed.iter().any(|entry| {
            *entry == path
                || entry
                    .strip_suffix('/')
                    .is_some_and(|folder| path.starts_with(&format!("{folder}/")))
        })
    };
    let unlisted: Vec<_> = found.iter().filter(|path| !is_listed(path)).collect();
    assert!(
        unlisted.is_empty(),
        "not in template/names.txt: {unlisted:#?}"
    );
    for entry in &listed {
        let folder = entry.trim_end_matches('/');
        let used = found
            .iter()
            .any(|path| path == entry || path.starts_with(&format!("{folder}/")));
        assert!(
            used,
            "template/names.txt lists {entry}, where the name does not stand"
        );
    }
}

#[test]
fn files_are_not_too_long() {
    for folder in ["src", "crates", "tests"] {
        for path in files(&root().join(folder), "rs") {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 420, "{} has {lines} lines", path.display());
        }
    }
}

/// The quoted texts directly after `before`.
fn quoted_after(code: &str, before: &str) -> BTreeSet<String> {
    let found = code.split(before).skip(1);
    found
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_method_of_a_store_is_declared_with_its_series() {
    let sources = sources();
    let mut stores = 0;
    for (path, code) in &sources {
        let Some(folder) = path.strip_suffix("/store/mod.rs") else {
            continue;
        };
        stores += 1;
        let list = code.split("QUERY_TYPES").nth(1).unwrap();
        let list = list.split("];").next().unwrap();
        let declared: BTreeSet<String> = list
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
            .map(str::to_owned)
            .collect();
        for backend in ["sqlite", "postgres"] {
            let beginning = format!("{folder}/store/{backend}");
            let shared = format!("{folder}/store/implementation.rs");
            let used: BTreeSet<String> = sources
                .iter()
                .filter(|(path, _)| path.starts_with(&beginning) || *path == shared)
                .flat_map(|(_, code)| {
                    let mut names = quoted_after(code, ".run(");
                    names.extend(quoted_after(code, ".transact("));
                    // The macro of a transaction with audit events takes the name second.
                    let audited = code.split("audited!(").skip(1);
                    names.extend(audited.filter_map(|rest| {
                        let arguments = rest.trim_start().strip_prefix("self,")?;
                        let name = arguments.trim_start().strip_prefix('"')?;
                        name.split('"').next().map(str::to_owned)
                    }));
                    names
                })
                .collect();
            assert_eq!(used, declared, "{beginning}");
        }
    }
    assert!(stores >= 2, "{stores} stores were found");
}

#[test]
fn every_migration_stands_in_both_folders_under_the_same_name() {
    let names = |backend: &str| {
        let folder = root().join("migrations").join(backend);
        let mut names: Vec<_> = files(&folder, "sql")
            .into_iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}
