//! The subcommands. All output for people is printed here.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Parser, Subcommand};
use identity::signing_keys::SigningKeySet;
use settings::{EffectiveValue, Problem, Profile};
use telemetry::{LogFormat, logs};

use crate::config::Config;
use crate::{app, commands, serve};

/// Exit code of an invalid configuration (`EX_USAGE` of sysexits), found before a port is bound.
pub const EXIT_CONFIG: u8 = 64;

/// A production service: metrics, traces, rate limits, graceful shutdown.
///
/// Configuration: built-in defaults, config/base.yaml, `config/<APP_ENV>.yaml`,
/// .env (development only), environment (`DATABASE_URL`, `RUST_LOG`, `OTEL_*`,
/// `APP__SECTION__KEY`). `config` shows the effective values. docs/config.md
/// documents every key.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default)
    Serve,
    /// Apply the missing migrations and exit
    Migrate,
    /// Validate the configuration and reach every dependency, with one line for each failure
    Check,
    /// Print the effective configuration and the source of each value, with secrets redacted
    Config,
    /// Print the OpenAPI document
    Openapi,
    /// Print a new JWK set for auth.keys
    Keygen {
        /// Write it to this file (mode 0600). An existing file is kept
        #[arg(long)]
        out: Option<std::path::PathBuf>,
    },
    /// Administer users in the database
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Read the audit trail in the database
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Check a running service, for health checks of containers
    Healthcheck {
        /// URL to check. The default is /health/live of the admin listener on this host
        #[arg(long)]
        url: Option<String>,
        /// Time to wait for the answer
        #[arg(long, default_value = "3s", value_parser = duration)]
        timeout: Duration,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum AdminCommand {
    /// Make a user an administrator. Running services apply it within seconds
    Promote {
        /// The user's id
        #[arg(long)]
        id: uuid::Uuid,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum AuditCommand {
    /// Check every event and the chain of their hashes. A changed or missing event is a failure
    Verify,
}

fn duration(text: &str) -> Result<Duration, String> {
    settings::parse_duration(text)
        .ok_or_else(|| "expected a duration such as 500ms or 3s".to_owned())
}

/// Runs a command line.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    make_files_private();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Openapi => finish(print_openapi()),
        Command::Keygen { out } => finish(keygen(out.as_deref())),
        // With a URL it needs no configuration and therefore no secrets.
        Command::Healthcheck {
            url: Some(url),
            timeout,
        } => finish(in_runtime(commands::healthcheck(&url, timeout))),
        command => match Config::load() {
            Ok((config, effective)) => {
                speak(&command, config.telemetry.log_format);
                // The service writes the warnings to its log, and a health check prints none.
                if !matches!(command, Command::Serve | Command::Healthcheck { .. }) {
                    config.warnings.iter().for_each(|warning| say(warning));
                }
                run_configured(command, &config, &effective)
            }
            Err(refused) => {
                speak(&command, refused.log_format);
                refuse(&refused.problems)
            }
        },
    }
}

/// Makes new files private: databases, the files of SQLite beside them, locks and folders. They are
/// for their owner only, regardless of the umask of the shell or the unit file. Existing files keep
/// their mode.
fn make_files_private() {
    use rustix::fs::Mode;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

fn run_configured(command: Command, config: &Config, effective: &[EffectiveValue]) -> ExitCode {
    match command {
        Command::Config => finish(print_config(config, effective)),
        Command::Migrate => finish(in_runtime(commands::migrate(config, say))),
        Command::Check => finish(in_runtime(check(config))),
        Command::Admin {
            command: AdminCommand::Promote { id },
        } => finish(in_runtime(commands::promote(config, id)).and_then(|done| print(&done))),
        Command::Audit {
            command: AuditCommand::Verify,
        } => finish(in_runtime(commands::verify_audit(config, say)).and_then(|done| print(&done))),
        Command::Healthcheck { url, timeout } => {
            let url = url.unwrap_or_else(|| commands::liveness_url(config));
            finish(in_runtime(commands::healthcheck(&url, timeout)))
        }
        Command::Serve | Command::Openapi | Command::Keygen { .. } => {
            let announce = |public, admin| banner(config, public, admin);
            match in_runtime(serve::run(config, announce)) {
                Ok(code) => ExitCode::from(code),
                Err(error) => finish(Err(error)),
            }
        }
    }
}

/// Time for threads that still block at the end, for example on a name resolution or a file on a
/// lost share. They end with the process.
const LET_GO: Duration = Duration::from_millis(500);

fn in_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    // Dropping the runtime would wait for such a thread without a limit.
    runtime.shutdown_timeout(LET_GO);
    result
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Limit of the wait for the log lines of the start before the banner.
const BEFORE_THE_BANNER: Duration = Duration::from_millis(250);

/// Prints the addresses after the log lines of the start.
fn banner(config: &Config, public: SocketAddr, admin: SocketAddr) {
    if config.profile != Profile::Development || in_json() {
        return;
    }
    let host = |address: SocketAddr| {
        if address.ip().is_unspecified() {
            format!("http://localhost:{}", address.port())
        } else {
            format!("http://{address}")
        }
    };
    // Another thread writes the log lines of the start.
    logs::flush(BEFORE_THE_BANNER);
    let (public, admin) = (host(public), host(admin));
    let user = config
        .auth
        .development_admin()
        .map_or_else(String::new, |(email, password)| {
            format!("  Log in   as {email} with {password} (development only)\n")
        });
    say(&format!(
        "\n  {name} {version} is ready\n\n  API      {public}/api/v1/ping\n  Docs     {public}/docs\n  \
         Live     {admin}/\n  Metrics  {admin}/metrics\n  Probes   {admin}/health/ready\n{user}\n  Stop with Ctrl-C\n",
        name = env!("CARGO_PKG_NAME"),
        version = env!("CARGO_PKG_VERSION"),
    ));
}

fn refuse(problems: &[Problem]) -> ExitCode {
    complain(&format!(
        "the configuration has {} problem(s):",
        problems.len()
    ));
    for problem in problems {
        if in_json() {
            complain(&problem.to_string());
        } else {
            say(&format!("  {problem}"));
        }
    }
    say("docs/config.md documents every key");
    ExitCode::from(EXIT_CONFIG)
}

/// Format of the lines on standard error, set after the configuration was read.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Sets the log format for commands whose output is kept as a log. The output of the others is text
/// for the caller.
fn speak(command: &Command, format: LogFormat) {
    if !matches!(command, Command::Serve | Command::Migrate) {
        return;
    }
    let format = *FORMAT.get_or_init(|| format);
    if format == LogFormat::Json {
        logs::panics_as_json();
    }
}

fn in_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// Writes an error to standard error.
fn complain(error: &str) {
    if in_json() {
        logs::json_line(tracing::Level::ERROR, error);
    } else {
        say(&format!("error: {error}"));
    }
}

/// Writes a line to standard error. A closed standard error is not a failure.
fn say(line: &str) {
    if in_json() {
        logs::json_line(tracing::Level::INFO, line);
    } else {
        let _closed = writeln!(std::io::stderr().lock(), "{line}");
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}") {
        // A closed pipe, as in `… | head`, is not a failure either.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn print_openapi() -> anyhow::Result<()> {
    print(&app::openapi().to_pretty_json()?)
}

fn keygen(out: Option<&std::path::Path>) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let keys = SigningKeySet::generate()?;
    let Some(path) = out else { return print(&keys) };
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            say(&format!(
                "{} is there already and stays as it is",
                path.display()
            ));
            Ok(())
        }
        file => file
            .and_then(|mut file| writeln!(file, "{keys}"))
            .with_context(|| format!("cannot write {}", path.display())),
    }
}

fn print_config(config: &Config, effective: &[EffectiveValue]) -> anyhow::Result<()> {
    use std::fmt::Write as _;
    let mut text = format!("# APP_ENV: {}", config.environment);
    if config.environment != config.profile.as_str() {
        write!(text, " (the rules of {})", config.profile.as_str())?;
    }
    text.push('\n');
    let width = effective
        .iter()
        .map(|line| line.key.len())
        .max()
        .unwrap_or(0);
    for EffectiveValue { key, value, source } in effective {
        let value = value.as_deref().unwrap_or("(unset)");
        writeln!(text, "{key:width$}  {value}  # {source}")?;
    }
    for name in config.otel.keys() {
        // Headers contain credentials, and endpoints may contain them.
        writeln!(text, "{name:width$}  (set)  # environment")?;
    }
    print(text.trim_end())
}

async fn check(config: &Config) -> anyhow::Result<()> {
    let commands::Findings { failures, pending } = commands::check(config, say).await;
    for failure in &failures {
        say(failure);
    }
    anyhow::ensure!(failures.is_empty(), "{} check(s) failed", failures.len());
    if pending.is_empty() {
        return print("ok: configuration, database, migrations");
    }
    print(&format!(
        "ok: configuration, database; {} migrations are pending, which `serve` applies at its \
         start (database.migrate_on_start): {}",
        pending.len(),
        pending.join(", ")
    ))
}
