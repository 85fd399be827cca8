//! The cost of credentials: access tokens that are cached or not, logins of known and unknown users,
//! and the latency of probes while many users log in on one core.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::accounts::{Api, PASSWORD, SETTINGS};
use crate::process::Server;
use crate::{load, load_runtime, median, servers};

/// Access tokens that are sent once each, and then again.
const TOKENS: usize = 2_000;
/// Logins of a known and of an unknown user, in turn.
const LOGINS: usize = 60;
/// Users who log in at the same time.
const USERS: usize = 200;
/// Number of times that they do it.
const WAVES: usize = 5;
/// Time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// No account is limited, because the load logs in with few of them.
const UNLIMITED: [(&str, &str); 2] = [
    ("APP__RATE_LIMIT__ACCOUNT__PER_SECOND", "100000"),
    ("APP__RATE_LIMIT__ACCOUNT__BURST", "100000"),
];

/// Prints the table, on SQLite with production defaults.
pub fn report() -> anyhow::Result<()> {
    let runtime = load_runtime()?;
    let folder = tempfile::tempdir()?;
    let sink = runtime.block_on(servers::trace_sink())?;
    let settings = [&SETTINGS[..], &UNLIMITED[..]].concat();
    let server = Server::service("this service", folder.path(), sink, &settings)?;
    println!();
    println!("Credentials, SQLite, one core");
    println!();
    println!("| what | measured |");
    println!("| --- | --- |");
    runtime.block_on(tokens(&server))?;
    runtime.block_on(logins(&server))?;
    // The next part provokes errors: more logins than the process accepts at once.
    server.is_sound()?;
    runtime.block_on(probes(&server))
}

/// Reads the own user with tokens that were never sent before, and with the same ones again.
async fn tokens(server: &Server) -> anyhow::Result<()> {
    let api = Api::new(server)?;
    let user = api.register().await?;
    let mut tokens = api.log_in(&user.email).await?;
    let mut requests = Vec::new();
    for _ in 0..TOKENS {
        tokens = api.refresh(&tokens).await?;
        requests.push(tokens.read_user());
    }
    let mut cpu = Vec::new();
    for _ in 0..2 {
        let before = server.cpu()?;
        load::once(server.address(), &requests).await?;
        let spent = server.cpu()?.saturating_sub(before);
        cpu.push(spent.as_secs_f64() * 1e6 / TOKENS as f64);
    }
    println!(
        "| a request with a new access token | {:.0} µs of CPU |",
        cpu[0]
    );
    println!("| the same with a cached one | {:.0} µs of CPU |", cpu[1]);
    Ok(())
}

/// Logs in as a known and as an unknown user, in turn, with a wrong password.
async fn logins(server: &Server) -> anyhow::Result<()> {
    let api = Api::new(server)?;
    let user = api.register().await?;
    let mut times = [Vec::new(), Vec::new()];
    let before = server.cpu_with_ended_threads()?;
    for _ in 0..LOGINS {
        for (email, times) in [user.email.as_str(), "nobody@example.com"]
            .into_iter()
            .zip(&mut times)
        {
            let began = Instant::now();
            let status = api.try_login(email, "a wrong passphrase 41").await?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            ensure!(status == 401, "a wrong password was answered {status}");
        }
    }
    let spent = server.cpu_with_ended_threads()?.saturating_sub(before);
    let spent = spent.as_secs_f64() * 1e3;
    let [known, unknown] = times.map(median);
    println!(
        "| one login | {:.1} ms of CPU |",
        spent / (2 * LOGINS) as f64
    );
    println!("| wrong password of a known user | {known:.1} ms |");
    println!(
        "| of an unknown user | {unknown:.1} ms, {:.3} of it |",
        unknown / known
    );
    Ok(())
}

/// Probes the process while users log in at the same time.
async fn probes(server: &Server) -> anyhow::Result<()> {
    let api = Api::new(server)?;
    let user = api.register().await?;
    let (mut latencies, mut accepted, mut refused) = (Vec::new(), 0, 0);
    for _ in 0..WAVES {
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..USERS {
            let (api, user) = (api.clone(), user.clone());
            logins.spawn(async move { api.try_login(&user.email, PASSWORD).await });
        }
        while !logins.is_empty() {
            let due = Instant::now();
            api.probe().await?;
            latencies.push(due.elapsed().as_secs_f64() * 1e3);
            while let Some(login) = logins.try_join_next() {
                match login?? {
                    200 => accepted += 1,
                    503 => refused += 1,
                    status => anyhow::bail!("a login was answered {status}"),
                }
            }
            tokio::time::sleep(PROBE_INTERVAL.saturating_sub(due.elapsed())).await;
        }
    }
    latencies.sort_by(f64::total_cmp);
    let (probes, resident) = (latencies.len(), server.resident_mib()?);
    let (p99, slowest) = (latencies[probes * 99 / 100], latencies[probes - 1]);
    println!(
        "| {USERS} logins at once, {WAVES} times | {accepted} succeeded, {refused} refused (503), {resident:.0} MiB resident |"
    );
    println!(
        "| `/health/live` meanwhile, {probes} probes | p99 {p99:.1} ms, slowest {slowest:.1} ms |"
    );
    Ok(())
}
