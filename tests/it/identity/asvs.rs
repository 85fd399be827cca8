//! The comparison with OWASP ASVS names tests.

/// The tests that the comparison with OWASP ASVS names exist.
#[test]
fn the_tests_of_the_security_comparison_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/asvs.md")).unwrap();
    let spans = page.split('`').skip(1).step_by(2);
    let named: Vec<&str> = spans.filter(|span| span.contains("::")).collect();
    assert!(named.len() >= 30, "{}", named.len());
    let mut sources = String::new();
    let mut folders = vec![
        root.join("tests/it"),
        root.join("crates/identity/src"),
        root.join("crates/http-server/src"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for name in named {
        let function = name.rsplit("::").next().unwrap();
        assert!(
            sources.contains(&format!("fn {function}(")),
            "{name} does not exist"
        );
    }
    // Every requirement of levels 1 and 2 of the four chapters has a row.
    for section in [
        "6.1", "6.2", "6.3", "6.4", "6.5", "6.8", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6",
    ] {
        assert!(page.contains(&format!("| {section}.")), "{section}");
    }
}
