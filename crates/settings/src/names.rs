//! Names of environment variables, and suggestions for misspelt ones.

/// Standard variables and the keys that they set.
pub(crate) const STANDARD: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("RUST_LOG", "telemetry.log_filter"),
];

/// Variables that are read before any layer.
pub(crate) const BOOTSTRAP: [&str; 2] = ["APP_ENV", "APP_CONFIG_DIR"];

/// The environment variable of a key.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("APP__{}", key.to_uppercase().replace('.', "__"))
}

/// The key that a misspelt variable probably means, for example `http.addr` for `APP_HTTP_ADDR`,
/// `APP_HTTP__ADDR` or `app__http__addr`. Levels are separated by two underscores, words by one,
/// and names are upper case.
pub(crate) fn probable_key<'a>(name: &str, known: &[&'a str]) -> Option<(&'a str, &'static str)> {
    let upper = name.to_uppercase();
    let rest = upper.strip_prefix("APP_")?;
    if name.starts_with("APP__") || BOOTSTRAP.contains(&name) {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['.', '_'], "");
    let (rest, file) = (
        plain(rest),
        plain(rest.strip_suffix("_FILE").unwrap_or_default()),
    );
    known.iter().find_map(|key| {
        let key_only = plain(key);
        if key_only == rest {
            Some((*key, ""))
        } else {
            (key_only == file).then_some((*key, "_FILE"))
        }
    })
}

/// The standard name that a misspelt variable probably means. `others` are further standard names.
pub(crate) fn suggest_standard_name(name: &str, others: &[String]) -> Option<String> {
    let files = STANDARD.iter().map(|(name, _)| format!("{name}_FILE"));
    let names = STANDARD.iter().map(|(name, _)| *name).chain(BOOTSTRAP);
    let candidates: Vec<String> = names.map(str::to_owned).chain(files).collect();
    nearest_name(name, candidates.iter().chain(others))
}

/// The nearest candidate: at most one typing error in short names, two in long ones.
pub fn nearest_name<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a String>,
) -> Option<String> {
    let distance = candidates.map(|candidate| {
        let distance = strsim::osa_distance(name, candidate);
        (distance, candidate)
    });
    let (distance, candidate) = distance.min()?;
    let allowed = if candidate.len() < 10 { 1 } else { 2 };
    ((1..=allowed).contains(&distance)).then(|| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_are_recognised_and_other_variables_are_not() {
        let known = ["http.addr", "admin.token", "database.max_connections"];
        for (name, meant) in [
            ("APP_HTTP_ADDR", ("http.addr", "")),
            ("APP_HTTP__ADDR", ("http.addr", "")),
            ("app__http__addr", ("http.addr", "")),
            ("App_Http_Addr", ("http.addr", "")),
            (
                "APP_DATABASE_MAX_CONNECTIONS",
                ("database.max_connections", ""),
            ),
            ("APP_ADMIN_TOKEN_FILE", ("admin.token", "_FILE")),
        ] {
            assert_eq!(probable_key(name, &known), Some(meant), "{name}");
        }
        for name in [
            "APP__HTTP__ADDR",
            "APP_ENV",
            "APP_NAME",
            "APP_HTTP_PORT",
            "HTTP_ADDR",
            "APP_HTTP_PORT_80_TCP_ADDR",
        ] {
            assert_eq!(probable_key(name, &known), None, "{name}");
        }
    }

    #[test]
    fn typing_errors_in_standard_names_are_found() {
        let others = ["OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()];
        for (name, meant) in [
            ("DATABASE_ULR", "DATABASE_URL"),
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASE_URL_FIEL", "DATABASE_URL_FILE"),
            ("RUSTLOG", "RUST_LOG"),
            ("APP_ENVV", "APP_ENV"),
            ("APP_CONFIG_DIRECTORY", ""),
            ("OTLE_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("DATABASE_URL", ""),
            ("RUST_LOG", ""),
            ("APP_KEY", ""),
            ("RUST_LOG_STYLE", ""),
            ("PATH", ""),
        ] {
            let found = suggest_standard_name(name, &others).unwrap_or_default();
            assert_eq!(found, meant, "{name}");
        }
    }
}
