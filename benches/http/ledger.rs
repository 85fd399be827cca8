//! Reads and transfers on both databases, compared with a bare handler and, on Postgres, with
//! pgbench, all with the same SQL.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::accounts::{self, Pair, Work, target};
use crate::process::Server;
use crate::{load, load_runtime, median, pgbench, servers};

/// Connections of the load, equal to the size of the pools.
const CLIENTS: usize = 10;
/// Rounds over all servers. The first one is a warm-up.
const ROUNDS: usize = 6;
const TIME: Duration = Duration::from_secs(3);
/// Connections of the load on one account, and pool sizes.
const CROWD: usize = 64;
const POOLS: [&str; 2] = ["5", "40"];

/// Results of one server.
#[derive(Clone, Copy)]
struct Sample {
    cpu_micros: f64,
    per_second: f64,
}

/// Prints the tables. That of Postgres only if `TEST_DATABASE_URL` names a server.
pub fn report() -> anyhow::Result<()> {
    let runtime = load_runtime()?;
    let folder = tempfile::tempdir()?;
    println!();
    println!(
        "Reads and transfers, {CLIENTS} connections, pools of 10, {} rounds",
        ROUNDS - 1
    );
    println!();
    println!(
        "| database, work | service: CPU (µs) | bare handler: CPU (µs) | service by bare (min to max) | service (1/s) | bare (1/s) | pgbench (1/s) | service by pgbench (min to max) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    runtime.block_on(async {
        let file = folder.path().join("ledger.db");
        compare(
            "SQLite",
            &format!("sqlite://{}", file.display()),
            folder.path(),
        )
        .await?;
        let Ok(server) = std::env::var("TEST_DATABASE_URL") else {
            println!();
            println!("No Postgres: TEST_DATABASE_URL is not set");
            return Ok(());
        };
        let name = format!("bench_{}", std::process::id());
        let mut admin = server.parse::<PgConnectOptions>()?.connect().await?;
        let (fsync,): (String,) = sqlx::query_as("SHOW fsync").fetch_one(&mut admin).await?;
        anyhow::ensure!(
            fsync == "on",
            "this Postgres does not write to its disk; use: POSTGRES_DURABLE=yes scripts/postgres run -- ..."
        );
        let create = format!("CREATE DATABASE {name}");
        admin.execute(sqlx::AssertSqlSafe(create)).await?;
        // sqlx's options are not used because their URL has parameters that pgbench rejects.
        let mut url = url::Url::parse(&server)?;
        url.set_path(&name);
        let measured = postgres(url.as_str(), folder.path()).await;
        let remove = format!("DROP DATABASE {name} WITH (FORCE)");
        admin.execute(sqlx::AssertSqlSafe(remove)).await?;
        measured
    })
}

async fn postgres(url: &str, folder: &Path) -> anyhow::Result<()> {
    compare("Postgres", url, folder).await?;
    println!();
    println!("Transfers from one account on Postgres, {CROWD} connections");
    println!();
    println!("| places of the pool | transfers (1/s) |");
    println!("| --- | --- |");
    for places in POOLS {
        let setting = [("APP__DATABASE__MAX_CONNECTIONS", places)];
        let (service, pairs) = service(&format!("{places} places"), url, folder, &setting).await?;
        let requests: Vec<_> = (0..CROWD)
            .map(|index| request(&pairs, Work::Hot, index % pairs.len()))
            .collect();
        let mut rates = Vec::new();
        for _ in 1..ROUNDS {
            rates.push(sample(&service, &requests).await?.per_second);
        }
        service.is_sound()?;
        println!("| {places} | {:.0} |", median(rates));
    }
    Ok(())
}

async fn service(
    name: &str,
    url: &str,
    folder: &Path,
    more: &[(&str, &str)],
) -> anyhow::Result<(Server, Vec<Pair>)> {
    let mut settings = vec![("APP__DATABASE__URL", url)];
    settings.extend(accounts::SETTINGS);
    settings.extend(more);
    let sink = servers::trace_sink().await?;
    let service = Server::service(name, folder, sink, &settings)?;
    let pairs = Pair::open(&service, CLIENTS).await?;
    Ok((service, pairs))
}

async fn compare(database: &str, url: &str, folder: &Path) -> anyhow::Result<()> {
    let (service, pairs) = service(&format!("service on {database}"), url, folder, &[]).await?;
    let bare = Server::this_binary(
        &format!("bare on {database}"),
        "serve-bare-ledger",
        folder,
        servers::trace_sink().await?,
        &[("BENCH_DATABASE", url)],
    )?;
    for work in [Work::Read, Work::Spread, Work::Hot] {
        let requests: Vec<_> = (0..CLIENTS)
            .map(|index| request(&pairs, work, index))
            .collect();
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let own = sample(&service, &requests).await?;
            let other = sample(&bare, &requests).await?;
            let tps = if url.starts_with("sqlite:") {
                None
            } else {
                Some(pgbench::measure(url, folder, &pairs, work, TIME)?)
            };
            if round > 0 {
                rounds.push((own, other, tps));
            }
        }
        row(&format!("{database}, {work:?}"), &rounds);
    }
    service.is_sound()?;
    bare.is_sound()
}

fn row(name: &str, rounds: &[(Sample, Sample, Option<f64>)]) {
    let all = |value: fn(&(Sample, Sample, Option<f64>)) -> f64| -> Vec<f64> {
        rounds.iter().map(value).collect()
    };
    // Ratios are computed by round, so that drifts of the machine's speed cancel out.
    let by_bare = spread(all(|(own, bare, _)| own.cpu_micros / bare.cpu_micros));
    let tps: Option<Vec<f64>> = rounds.iter().map(|(_, _, tps)| *tps).collect();
    let (tps, by_pgbench) = match tps {
        Some(tps) => {
            let ratios = rounds
                .iter()
                .zip(&tps)
                .map(|((own, _, _), tps)| own.per_second / tps);
            let ratios = spread(ratios.collect());
            (format!("{:.0}", median(tps)), ratios)
        }
        None => ("-".to_owned(), "-".to_owned()),
    };
    println!(
        "| {name} | {:.1} | {:.1} | {by_bare} | {:.0} | {:.0} | {tps} | {by_pgbench} |",
        median(all(|(own, _, _)| own.cpu_micros)),
        median(all(|(_, bare, _)| bare.cpu_micros)),
        median(all(|(own, _, _)| own.per_second)),
        median(all(|(_, bare, _)| bare.per_second)),
    );
}

/// Median, minimum and maximum.
fn spread(values: Vec<f64>) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(values))
}

fn request(pairs: &[Pair], work: Work, index: usize) -> Vec<Vec<u8>> {
    if work == Work::Read {
        return vec![pairs[index].read()];
    }
    let (payer, from, to) = target(pairs, work, index);
    vec![payer.transfer(from, to)]
}

async fn sample(server: &Server, requests: &[Vec<Vec<u8>>]) -> anyhow::Result<Sample> {
    let before = server.cpu()?;
    let answered = load::repeated(server.address(), requests, TIME).await?;
    let cpu = server.cpu()?.saturating_sub(before);
    let answered = answered as f64;
    Ok(Sample {
        cpu_micros: cpu.as_secs_f64() * 1e6 / answered,
        per_second: answered / TIME.as_secs_f64(),
    })
}
