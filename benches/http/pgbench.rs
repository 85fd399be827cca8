//! The same statements sent by pgbench, whose client costs almost nothing: an upper bound for the
//! database on this machine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::accounts::{Pair, Work, target};

/// Transactions per second with as many clients as the service has connections.
pub fn measure(
    database: &str,
    folder: &Path,
    pairs: &[Pair],
    work: Work,
    time: Duration,
) -> anyhow::Result<f64> {
    let mut command = Command::new("pgbench");
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=1"]);
    command.arg(format!("--client={}", pairs.len()));
    command.arg(format!("--time={}", time.as_secs()));
    // Each transaction runs one of the files at random.
    for (index, pair) in pairs.iter().enumerate() {
        let path = folder.join(format!("{work:?}-{index}.sql"));
        std::fs::write(&path, statement(pairs, pair, work, index))?;
        command.arg("--file").arg(path);
    }
    let output = command
        .arg(database)
        .output()
        .context("pgbench comes with Postgres (postgresql-client) and has to be in PATH")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && text.contains("number of failed transactions: 0 "),
        "pgbench: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps = tps.and_then(|rest| rest.split(' ').next());
    Ok(tps.context("pgbench says no tps")?.parse()?)
}

fn statement(pairs: &[Pair], pair: &Pair, work: Work, index: usize) -> String {
    if work == Work::Read {
        return format!(
            "SELECT id, currency, name, balance, version, created_at
             FROM accounts WHERE id = '{}' AND owner_id = '{}';",
            pair.from, pair.owner
        )
        .replace('\n', " ");
    }
    let (payer, from, to) = target(pairs, work, index);
    // Ids grow with time like those of the service. Random ids would spread the writes over the
    // whole index.
    let id = "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') \
              || substr(replace(gen_random_uuid()::text, '-', ''), 13))::uuid";
    format!(
        "SELECT outcome FROM ledger_transfer({id}, '{from}', '{}', '{to}', 1, 'bench', now(), \
         9007199254740991, {id}, NULL, NULL, NULL, NULL, NULL);",
        payer.owner
    )
}
