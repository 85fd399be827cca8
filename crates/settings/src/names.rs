//! Names of variables that nothing reads, and what was probably meant.

/// Standard variable names and the keys that they set.
pub(crate) const STANDARD: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("RUST_LOG", "telemetry.log_filter"),
];

/// Read before any layer is.
pub(crate) const EARLY: [&str; 2] = ["APP_ENV", "APP_CONFIG_DIR"];

/// The variable of a key.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("APP__{}", key.to_uppercase().replace('.', "__"))
}

/// The key that a variable nearly names: `APP_HTTP_ADDR`, `APP_HTTP__ADDR` or
/// `app__http__addr` for `http.addr`. One underscore separates words, two separate
/// levels, and names have upper case.
pub(crate) fn misspelt<'a>(name: &str, known: &[&'a str]) -> Option<(&'a str, &'static str)> {
    let upper = name.to_uppercase();
    let rest = upper.strip_prefix("APP_")?;
    if name.starts_with("APP__") || EARLY.contains(&name) {
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

/// A standard name that this one nearly is. `others` are more standard names.
#[must_use]
pub fn nearly_standard(name: &str, others: &[String]) -> Option<String> {
    let files = STANDARD.iter().map(|(name, _)| format!("{name}_FILE"));
    let names = STANDARD.iter().map(|(name, _)| *name).chain(EARLY);
    let candidates: Vec<String> = names.map(str::to_owned).chain(files).collect();
    nearest(name, candidates.iter().chain(others))
}

/// The candidate that differs by a slip: one for short names, two for long ones.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a String>) -> Option<String> {
    let slips = candidates.map(|candidate| {
        let slips = strsim::osa_distance(name, candidate);
        (slips, candidate)
    });
    let (slips, candidate) = slips.min()?;
    let allowed = if candidate.len() < 10 { 1 } else { 2 };
    ((1..=allowed).contains(&slips)).then(|| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_of_keys_are_told_from_what_others_set() {
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
            assert_eq!(misspelt(name, &known), Some(meant), "{name}");
        }
        for name in [
            "APP__HTTP__ADDR",
            "APP_ENV",
            "APP_NAME",
            "APP_HTTP_PORT",
            "HTTP_ADDR",
            "APP_HTTP_PORT_80_TCP_ADDR",
        ] {
            assert_eq!(misspelt(name, &known), None, "{name}");
        }
    }

    #[test]
    fn slips_in_standard_names_are_found() {
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
            let found = nearly_standard(name, &others).unwrap_or_default();
            assert_eq!(found, meant, "{name}");
        }
    }
}
