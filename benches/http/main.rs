//! `make bench`: the cost of the platform relative to bare axum.
//!
//! Three servers answer the same `GET /api/v1/ping`: bare axum, this service at production defaults,
//! and the usual layers of tutorials. The service samples 10% to a local collector, writes its
//! request log to a file, and has a rate limiter with a rate that is never reached. The servers are
//! measured in turn over several rounds, each pinned to one core. The load comes from another core
//! and checks every response. It has a fixed rate that all of them can serve, or full speed. The most reliable figure on a noisy machine is
//! the CPU time per request from the accounting of the operating system. Further tables show the
//! process (start, memory at rest, scrape, shutdown), the memory of connections and the cost of
//! credentials. One compares reads and transfers on both databases with bare handlers and pgbench,
//! which run the same SQL.
//!
//! `cargo bench --bench http -- ping|process|memory|ledger|identity` measures a single table.

#![expect(unreachable_pub, reason = "a benchmark has no public interface")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark has no lifecycle, reads its environment and prints its results"
)]
#![expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

mod accounts;
mod bare_ledger;
mod identity;
mod ledger;
mod life;
mod load;
mod memory;
mod pgbench;
mod process;
mod servers;

use std::time::Duration;

use process::Server;

/// Rounds over all servers. The first one is a warm-up.
const ROUNDS: usize = 11;
/// Requests of one closed-loop measurement.
const REQUESTS: u64 = 40_000;
/// Connections of the load.
const CONNECTIONS: usize = 64;
/// Rate for the latencies, well below the maximum of the slowest server.
const RATE: f64 = 2_000.0;
const RATE_TIME: Duration = Duration::from_secs(2);

/// One measurement of one server.
#[derive(Clone, Copy)]
struct Sample {
    cpu_micros: f64,
    cpu_at_rate_micros: f64,
    per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    resident_mib: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes `--bench`.
    match arguments
        .iter()
        .map(String::as_str)
        .find(|word| *word != "--bench")
    {
        Some("serve-bare") => servers::bare(),
        Some("serve-tutorial") => servers::tutorial(),
        Some("serve-bare-ledger") => bare_ledger::serve(),
        // A single table.
        Some("ping") => compare(),
        Some("process") => life::report(),
        Some("memory") => memory::report(),
        Some("ledger") => ledger::report(),
        Some("identity") => identity::report(),
        Some(word) => anyhow::bail!("{word}: ping, process, memory, ledger or identity"),
        None => {
            compare()?;
            life::report()?;
            memory::report()?;
            ledger::report()?;
            identity::report()
        }
    }
}

/// The runtime of the load, pinned to its core.
fn load_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    process::pin_self()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime)
}

fn compare() -> anyhow::Result<()> {
    let runtime = load_runtime()?;
    let folder = tempfile::tempdir()?;
    let sink = || runtime.block_on(servers::trace_sink());
    let mut servers = [
        Server::this_binary("bare axum", "serve-bare", folder.path(), sink()?, &[])?,
        Server::service("this service", folder.path(), sink()?, &[])?,
        Server::this_binary("tutorial", "serve-tutorial", folder.path(), sink()?, &[])?,
    ];
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for round in 0..ROUNDS {
        for (server, samples) in servers.iter_mut().zip(&mut samples) {
            let sample = runtime.block_on(measure(server))?;
            if round > 0 {
                samples.push(sample);
            }
            eprint!("\rround {}/{ROUNDS}", round + 1);
        }
    }
    eprintln!();
    for server in &servers {
        server.is_sound()?;
    }
    for server in &servers[1..] {
        let name = server.name();
        anyhow::ensure!(server.exported() > 0, "{name} has exported no span");
    }
    report(&servers, &samples);
    Ok(())
}

async fn measure(server: &Server) -> anyhow::Result<Sample> {
    let before = server.cpu()?;
    let closed = load::closed(server.address(), CONNECTIONS, REQUESTS).await?;
    let cpu = server.cpu()?.saturating_sub(before);
    let before = server.cpu()?;
    let latencies = load::open(server.address(), CONNECTIONS, RATE, RATE_TIME).await?;
    let cpu_at_rate = server.cpu()?.saturating_sub(before);
    let requests = REQUESTS as f64;
    Ok(Sample {
        cpu_micros: cpu.as_secs_f64() * 1e6 / requests,
        cpu_at_rate_micros: cpu_at_rate.as_secs_f64() * 1e6 / latencies.count(),
        per_second: requests / closed.as_secs_f64(),
        p50_micros: latencies.quantile(0.5),
        p99_micros: latencies.quantile(0.99),
        resident_mib: server.resident_mib()?,
    })
}

fn report(servers: &[Server; 3], samples: &[Vec<Sample>; 3]) {
    println!(
        "GET /api/v1/ping, {CONNECTIONS} connections, {} rounds, one core each",
        ROUNDS - 1
    );
    println!();
    println!(
        "| server | at {RATE:.0}/s: CPU a request (µs) | speed by CPU, bare = 1 (min to max) | p50 / p99 (µs) | saturated: CPU a request (µs) | speed by CPU, bare = 1 (min to max) | requests/s | resident (MiB) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (server, own) in servers.iter().zip(samples) {
        let ratio = |cpu: fn(&Sample) -> f64| {
            // Ratios are computed by round, so that drifts of the machine's speed cancel out.
            let pairs = own.iter().zip(&samples[0]);
            let ratios: Vec<f64> = pairs.map(|(own, bare)| cpu(bare) / cpu(own)).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            format!("{:.2} ({least:.2} to {most:.2})", median(ratios))
        };
        let column = |value: fn(&Sample) -> f64| median(own.iter().map(value).collect());
        println!(
            "| {} | {:.1} | {} | {:.0} / {:.0} | {:.1} | {} | {:.0} | {:.1} |",
            server.name(),
            column(|sample| sample.cpu_at_rate_micros),
            ratio(|sample| sample.cpu_at_rate_micros),
            column(|sample| sample.p50_micros),
            column(|sample| sample.p99_micros),
            column(|sample| sample.cpu_micros),
            ratio(|sample| sample.cpu_micros),
            column(|sample| sample.per_second),
            column(|sample| sample.resident_mib),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
