//! A tour of the service as a client: `make demo`.
//!
//! It registers two users, opens accounts, lets the administrator deposit, runs 200 transfers, and
//! prints the changes. It uses the public API and reads the metrics as Prometheus does. It waits
//! for the time in `Retry-After`.

#![expect(
    clippy::disallowed_macros,
    reason = "a client at a terminal, not a part of the service"
)]

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

const TRANSFERS: u32 = 200;
/// A request fails after this many answers with `Retry-After`.
const MAX_WAITS: u32 = 20;

/// Acts as two users and an administrator of a running service.
#[derive(Parser)]
struct Arguments {
    /// The public listener of a running service. If none answers, the demo starts a service on an
    /// empty database.
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    url: String,
    /// The admin listener of the same service.
    #[arg(long, default_value = "http://127.0.0.1:9464")]
    admin_url: String,
    /// The administrator (by default the one of development).
    #[arg(long, default_value = "admin@example.com")]
    admin_email: String,
    /// The administrator's password.
    #[arg(
        long,
        default_value = "development-only-password",
        env = "DEMO_ADMIN_PASSWORD"
    )]
    admin_password: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()?;
    let ready = format!("{}/health/ready", arguments.url);
    let own = match http.get(&ready).send().await {
        Ok(answer) if answer.status().is_success() => {
            println!("Using the service at {}", arguments.url);
            None
        }
        Ok(answer) => bail!(
            "the service is not ready: {ready} answers {}",
            answer.status()
        ),
        Err(_) => Some(OwnService::start(&http, &mut arguments).await?),
    };
    let result = tour(
        &Client {
            http,
            base: arguments.url.clone(),
        },
        &arguments,
    )
    .await;
    drop(own);
    result
}

/// A service that runs as long as the demo.
struct OwnService {
    child: Child,
    _folder: tempfile::TempDir,
}

impl OwnService {
    async fn start(http: &reqwest::Client, arguments: &mut Arguments) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?
            .parent()
            .and_then(std::path::Path::parent)
            .context("the demo has no folder")?
            .join(env!("CARGO_PKG_NAME"));
        let folder = tempfile::tempdir()?;
        let (public, admin) = (free_port()?, free_port()?);
        let child = Command::new(&binary)
            .arg("serve")
            .current_dir(folder.path())
            .env("APP__HTTP__ADDR", format!("127.0.0.1:{public}"))
            .env("APP__ADMIN__ADDR", format!("127.0.0.1:{admin}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", binary.display()))?;
        let service = Self {
            child,
            _folder: folder,
        };
        arguments.url = format!("http://127.0.0.1:{public}");
        arguments.admin_url = format!("http://127.0.0.1:{admin}");
        println!("No service answered; started one at {}", arguments.url);
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let answer = http
                .get(format!("{}/health/ready", arguments.url))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(service);
            }
            ensure!(
                Instant::now() < deadline,
                "the service did not become ready"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for OwnService {
    fn drop(&mut self) {
        // SIGTERM lets the service drain.
        let pid = self.child.id().to_string();
        let _sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let _ended = self.child.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

struct Client {
    http: reqwest::Client,
    base: String,
}

/// One call of the API.
struct Call<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    idempotency_key: Option<String>,
    body: Option<Value>,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            token: None,
            idempotency_key: None,
            body: None,
        }
    }
}

impl Client {
    /// Sends a request. Repeats it after the time in `Retry-After` of 429 and 503.
    async fn send(&self, call: Call<'_>, waits: &mut u32) -> anyhow::Result<Response> {
        for _ in 0..MAX_WAITS {
            let url = format!("{}{}", self.base, call.path);
            let mut request = self.http.request(call.method.clone(), url);
            if let Some(token) = call.token {
                request = request.bearer_auth(token);
            }
            if let Some(key) = &call.idempotency_key {
                request = request.header("idempotency-key", key);
            }
            if let Some(body) = &call.body {
                request = request.json(body);
            }
            let answer = request.send().await?;
            let waiting = matches!(
                answer.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            let seconds = answer
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            match seconds {
                Some(seconds) if waiting => {
                    *waits += 1;
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                _ if answer.status().is_success() => return Ok(answer),
                _ => {
                    let status = answer.status();
                    bail!(
                        "{} {}: {status}: {}",
                        call.method,
                        call.path,
                        answer.text().await?
                    );
                }
            }
        }
        bail!(
            "{} {}: still told to wait after {MAX_WAITS} tries",
            call.method,
            call.path
        )
    }

    async fn json(&self, call: Call<'_>) -> anyhow::Result<Value> {
        Ok(self.send(call, &mut 0).await?.json().await?)
    }

    async fn login(&self, email: &str, password: &str) -> anyhow::Result<String> {
        let body = json!({ "email": email, "password": password });
        let call = Call {
            body: Some(body),
            ..Call::new(Method::POST, "/api/v1/auth/login")
        };
        text(&self.json(call).await?, "access_token")
    }
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    value[name]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the answer has no {name}"))
}

/// A user with an account.
struct Holder {
    name: &'static str,
    token: String,
    account: String,
}

async fn tour(client: &Client, arguments: &Arguments) -> anyhow::Result<()> {
    let before = scrape(client, &arguments.admin_url).await?;
    let run = uuid::Uuid::now_v7().simple().to_string();
    let alice = open(client, "Alice", &run).await?;
    let bob = open(client, "Bob", &run).await?;
    let admin = client
        .login(&arguments.admin_email, &arguments.admin_password)
        .await
        .context("the administrator cannot log in; see --admin-email and --admin-password")?;
    let mut deposited = 0;
    for holder in [&alice, &bob] {
        let body = json!({ "account": holder.account, "amount": 100_000, "reference": "demo" });
        let call = Call {
            token: Some(&admin),
            body: Some(body),
            ..Call::new(Method::POST, "/api/v1/deposits")
        };
        let deposit = client.json(call).await?;
        deposited += deposit["amount"]
            .as_i64()
            .context("the deposit has no amount")?;
    }
    println!("Created two users with an account each and deposited 1000.00 EUR into both");

    let (trace, waits) = transfers(client, &alice, &bob, &run).await?;
    println!("Waited {waits} times after an answer with Retry-After (429 or 503)");

    println!("\nBalances (EUR)");
    let mut held = 0;
    for holder in [&alice, &bob] {
        let path = format!("/api/v1/accounts/{}", holder.account);
        let account = client.json(Call {
            token: Some(&holder.token),
            ..Call::new(Method::GET, &path)
        });
        let balance = account.await?["balance"]
            .as_i64()
            .context("the account has no balance")?;
        held += balance;
        println!("  {:<16} {:>12}", holder.name, euros(balance));
    }
    // The deposits debited the system account of the currency by the same amount.
    let system = -deposited;
    println!("  {:<16} {:>12}", "system account", euros(system));
    println!("  {:<16} {:>12}", "sum", euros(held + system));
    ensure!(held + system == 0, "the sum of all balances is not zero");

    println!("\nMetrics that have increased");
    let after = scrape(client, &arguments.admin_url).await?;
    for (series, value) in &after {
        let moved = value - before.get(series).copied().unwrap_or(0.0);
        if moved > 0.0 {
            println!("  {moved:>6} {series}");
        }
    }
    println!("\nTrace of one transfer (the one in its log line): {trace}");
    Ok(())
}

async fn open(client: &Client, name: &'static str, run: &str) -> anyhow::Result<Holder> {
    let email = format!("{}-{run}@example.com", name.to_lowercase());
    let password = format!("demo-password-{run}");
    let body = json!({ "email": email, "name": name, "password": password });
    client
        .json(Call {
            body: Some(body),
            ..Call::new(Method::POST, "/api/v1/auth/register")
        })
        .await?;
    let token = client.login(&email, &password).await?;
    let call = Call {
        token: Some(&token),
        body: Some(json!({ "currency": "EUR", "name": "demo" })),
        ..Call::new(Method::POST, "/api/v1/accounts")
    };
    let account = text(&client.json(call).await?, "id")?;
    Ok(Holder {
        name,
        token,
        account,
    })
}

/// Runs the transfers in both directions. Returns the trace id of the last one and the number of
/// waits.
async fn transfers(
    client: &Client,
    alice: &Holder,
    bob: &Holder,
    run: &str,
) -> anyhow::Result<(String, u32)> {
    let mut progress = Progress::new();
    let (mut trace, mut waits) = (String::new(), 0);
    for number in 1..=TRANSFERS {
        let (from, to) = if number % 3 == 0 {
            (bob, alice)
        } else {
            (alice, bob)
        };
        let call = Call {
            token: Some(&from.token),
            idempotency_key: Some(format!("demo-{run}-{number}")),
            body: Some(json!({
                "from_account": from.account,
                "to_account": to.account,
                "amount": 100 + number,
                "reference": format!("transfer {number}"),
            })),
            ..Call::new(Method::POST, "/api/v1/transfers")
        };
        let answer = client.send(call, &mut waits).await?;
        let traced = answer
            .headers()
            .get("traceresponse")
            .and_then(|value| value.to_str().ok());
        let traced = traced.and_then(|value| value.split('-').nth(1));
        traced
            .context("the answer names no trace")?
            .clone_into(&mut trace);
        progress.show(number);
    }
    Ok((trace, waits))
}

/// A bar on a terminal. Elsewhere a line for every 50 transfers.
struct Progress {
    began: Instant,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
        }
    }

    fn show(&mut self, done: u32) {
        let seconds = self.began.elapsed().as_secs_f64();
        if self.terminal {
            let filled = usize::try_from(done * 40 / TRANSFERS).unwrap_or_default();
            print!(
                "\rTransfers [{:<40}] {done}/{TRANSFERS} {seconds:.1} s",
                "#".repeat(filled)
            );
            let _closed = std::io::stdout().flush();
            if done == TRANSFERS {
                println!();
            }
        } else if done.is_multiple_of(50) {
            println!("Transfers {done}/{TRANSFERS} {seconds:.1} s");
        }
    }
}

fn euros(minor: i64) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", minor.abs() / 100, minor.abs() % 100)
}

/// Reads the request counters from the metrics.
async fn scrape(client: &Client, admin: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let answer = client
        .http
        .get(format!("{admin}/metrics"))
        .send()
        .await?
        .error_for_status()?;
    let text = answer.text().await?;
    let wanted = [
        "http_requests_total{",
        "ledger_transfers_total{",
        "rate_limit_decisions_total{",
    ];
    Ok(text
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?)))
        .collect())
}
