//! Generated documents match the code. `make docs` writes them.

mod openapi;

use std::fmt::Write as _;
use std::path::Path;

use settings::{Default, SettingKey};
use telemetry::metrics::unit;

use crate::architecture::{files, root};

/// Compares a document with the expected text, or writes it if `UPDATE_DOCUMENTS` is set.
pub fn golden(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is out of step with the code: run `make docs`",
        path.display()
    );
}

fn one_line(doc: &str) -> String {
    doc.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

#[test]
fn metrics() {
    let mut text = String::from(
        "# Metrics\n\nGenerated from the `metrics!` blocks by `make docs`. A test compares it with \
         the code. The admin listener serves all metrics at `/metrics`. Names and labels are an \
         interface: changes are listed in the changelog.\n",
    );
    for (title, block) in gantry::app::catalogue() {
        write!(
            text,
            "\n## {title}\n\n| metric | kind | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n"
        )
        .unwrap();
        for metric in block {
            let labels = metric.labels.iter().map(|label| format!("`{label}`"));
            let labels = labels.collect::<Vec<_>>().join(", ");
            let help = one_line(metric.doc);
            let unit = unit(metric.name).unwrap_or_default();
            let buckets = metric.buckets.iter().map(f64::to_string);
            let buckets = match buckets.collect::<Vec<_>>().join(" ") {
                bounds if bounds.is_empty() => bounds,
                bounds => format!(" Buckets: {bounds}."),
            };
            let (name, kind) = (metric.name, metric.kind);
            writeln!(
                text,
                "| `{name}` | {kind} | {unit} | {labels} | {help}{buckets} |"
            )
            .unwrap();
        }
    }
    text.push_str(PROCESS);
    text.push_str(FORMATS);
    golden("docs/metrics.md", &text);
}

/// Introduction of the metrics page, and its notes on builds.
const FORMATS: &str = "
## Formats

`Accept` selects Prometheus text 0.0.4 (the default) or OpenMetrics 1.0.0 (`application/openmetrics-text; version=1.0.0`). Both contain the same series. In OpenMetrics the family of a counter has no `_total`, bounds are floats (`le=\"1.0\"`) and units are declared. Each bucket of `http_request_duration_seconds` and `db_query_duration_seconds` has an exemplar with the `trace_id` of the most recent sampled request in it. Prometheus stores exemplars with `--enable-feature=exemplar-storage`.

Builds without `--cfg tokio_unstable` lack `tokio_task_polls_total`, `tokio_task_poll_mean_seconds`, `tokio_forced_yields_total`, `tokio_local_queue_depth`, `tokio_blocking_threads` and `tokio_blocking_queue_depth`. `.cargo/config.toml` and the Dockerfile set this flag. The environment variable `RUSTFLAGS` replaces it.
";

/// Metrics of the process collector of the `prometheus` crate, which has no static description.
/// `every_metric_of_a_scrape_is_in_the_catalogue` checks the list.
const PROCESS: &str = "
## Process

| metric | kind | unit | labels | meaning |
| --- | --- | --- | --- | --- |
| `process_cpu_seconds_total` | counter | seconds |  | CPU time of the process in seconds, user and system. |
| `process_open_fds` | gauge |  |  | Open file descriptors. |
| `process_max_fds` | gauge |  |  | Limit of open file descriptors. |
| `process_virtual_memory_bytes` | gauge | bytes |  | Virtual memory. |
| `process_resident_memory_bytes` | gauge | bytes |  | Resident memory. |
| `process_start_time_seconds` | gauge | seconds |  | Start time of the process in seconds since the epoch. |
| `process_threads` | gauge |  |  | Operating system threads. |
";

#[tokio::test]
async fn every_metric_of_a_scrape_is_in_the_catalogue() {
    use crate::support::{Backend, Service};
    let service = Service::start(Backend::Sqlite).await;
    let catalogue =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md"))
            .unwrap();
    let text = service
        .client
        .get(service.admin("/metrics"))
        .send()
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    let helps = text.lines().filter(|line| line.starts_with("# HELP "));
    assert!(helps.clone().count() >= 30);
    for help in helps {
        assert!(!help.contains('`') && help.len() <= 200, "{help}");
    }
    let mut families = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(
            catalogue.contains(&format!("| `{name}` | {kind} |")),
            "{name} ({kind})"
        );
        families += 1;
    }
    assert!(families >= 30, "{families}");
}

/// Help texts are shown in scrapes and tooltips, so they are short plain text.
#[test]
fn the_help_of_every_metric_is_one_short_sentence() {
    let blocks = gantry::app::catalogue();
    let metrics = blocks.iter().flat_map(|(_, block)| block.iter());
    let wrong: Vec<_> = metrics
        .filter(|metric| {
            let help = metric.help();
            !(10..=120).contains(&help.chars().count()) || help.contains(['`', '\n', '[', '*'])
        })
        .map(|metric| (metric.name, metric.help()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn configuration() {
    let mut text = String::from(
        "# Configuration\n\nGenerated from the `settings!` sections by `make docs`. A test compares \
         it with the code.\n\nThe sources, lowest precedence first: built-in defaults, \
         `config/base.yaml`, `config/<APP_ENV>.yaml` (`development` by default, `production`, or \
         the name of another environment), `.env` (development only), and environment variables. \
         Variables are the standard names `DATABASE_URL` (`database.url`), `RUST_LOG` \
         (`telemetry.log_filter`) and `OTEL_*`, which are overridden by `APP__<SECTION>__<KEY>`. \
         Secrets can be read from a file: append `_FILE` to the name. `APP_CONFIG_DIR` replaces \
         the folder `config`. Durations are written `250ms`, `15s`, `5m`, `12h`, `30d`, sizes \
         `64KiB`, `1MiB`. Lists in variables are separated by commas. Unknown keys, wrong types \
         and values out of range end the process with exit code 64 before a port binds. All of \
         them are in one report. The `config` subcommand prints the effective values with their \
         sources and line numbers.\n\nAny other environment, for example `staging`, has the rules \
         and defaults of production and needs its own file (`config/staging.yaml`), so that a \
         misspelt name does not start. `APP_ENV` and `APP_CONFIG_DIR` are not read from `.env`. A \
         variable that nearly names a key (`APP_HTTP_ADDR`) is an error with the right name. A \
         misspelt standard name (`DATABASE_ULR`) causes a warning at the start and in `check`.\n",
    );
    for section in gantry::config::SECTIONS {
        let name = section_name(section);
        write!(
            text,
            "\n## `{name}`\n\n| key | variable | default | meaning |\n| --- | --- | --- | --- |\n"
        )
        .unwrap();
        for key in *section {
            let variable = format!("APP__{}", key.path.to_uppercase().replace('.', "__"));
            let meaning = one_line(key.doc);
            let file = if key.secret { " Secret." } else { "" };
            let default = default(key);
            writeln!(
                text,
                "| `{}` | `{variable}` | {default} | {meaning}{file} |",
                key.path
            )
            .unwrap();
        }
    }
    golden("docs/config.md", &text);
}

/// The levels that all keys of a section have in common.
fn section_name(section: &[SettingKey]) -> &'static str {
    let mut name = section[0].path;
    let is_common = |name: &str| {
        let mut paths = section.iter().map(|key| key.path.strip_prefix(name));
        paths.all(|rest| rest.is_some_and(|rest| rest.starts_with('.')))
    };
    while !is_common(name) {
        name = name.rsplit_once('.').unwrap().0;
    }
    name
}

fn default(key: &SettingKey) -> String {
    let code = |text: &str| {
        if text.is_empty() {
            "empty".to_owned()
        } else {
            format!("`{text}`")
        }
    };
    // Where it says `{service}`.
    let named = |text: &str| text.replace("{service}", gantry::SERVICE.name);
    let code = |text: &str| code(&named(text));
    match key.default {
        Default::Same(text) => code(text),
        Default::PerProfile {
            development,
            production,
        } => {
            format!("{}, in development {}", code(production), code(development))
        }
        Default::DevelopmentOnly(text) if key.optional => {
            format!("none, in development {}", code(text))
        }
        Default::DevelopmentOnly(text) => format!("required, in development {}", code(text)),
        Default::Unset => "none".to_owned(),
    }
}

#[test]
fn errors() {
    let mut text = String::from(
        "# Errors\n\nGenerated from the `problem_codes!` blocks by `make docs`. A test compares it \
         with the code. Every error is `application/problem+json` (RFC 9457) with `type`, `title`, \
         `status`, `detail`, `code`, `request_id`, `trace_id` and, for validation, `errors: \
         [{field, code, message}]`. Clients match on `code`.\n\n| status | code | meaning |\n\
         | --- | --- | --- |\n",
    );
    let mut codes = gantry::app::problem_codes();
    codes.sort_by_key(|code| (code.status, code.code));
    for code in codes {
        writeln!(
            text,
            "| {} | `{}` | {} |",
            code.status,
            code.code,
            one_line(code.doc)
        )
        .unwrap();
    }
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bad-input.md");
    if inputs.exists() {
        text.push_str("\nResponses to each kind of invalid input: [bad-input.md](bad-input.md).\n");
    }
    golden("docs/errors.md", &text);
}

#[test]
fn documents_name_sources_that_exist() {
    let root = root();
    let sources: Vec<String> = ["src", "crates", "tests", "benches", "examples"]
        .iter()
        .flat_map(|folder| files(&root.join(folder), "rs"))
        .map(|path| format!("/{}", path.strip_prefix(root).unwrap().display()))
        .chain(["/build.rs".to_owned()])
        .collect();
    let mut pages = files(&root.join("docs"), "md");
    pages.push(root.join("README.md"));
    let mut checked = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in text.split('`') {
            let is_source = Path::new(name).extension().is_some_and(|own| own == "rs");
            if !is_source || name.contains([' ', '{', '*', '\n']) {
                continue;
            }
            checked += 1;
            assert!(
                sources
                    .iter()
                    .any(|path| path.ends_with(&format!("/{name}"))),
                "{} names `{name}`, which does not exist",
                page.display()
            );
        }
    }
    assert!(checked > 50, "{checked} names were found");
}
