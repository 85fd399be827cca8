//! Memory of an open connection after one request.

use crate::load::OpenConnections;
use crate::process::Server;
use crate::{load_runtime, servers};

const COUNTS: [usize; 3] = [1, 1_000, 5_000];

/// Prints a table of bare axum and the service.
pub fn report() -> anyhow::Result<()> {
    let runtime = load_runtime()?;
    let folder = tempfile::tempdir()?;
    let sink = || runtime.block_on(servers::trace_sink());
    // All connections use the same address.
    let settings = [("APP__HTTP__MAX_CONNECTIONS_PER_CLIENT", "10000")];
    let servers = [
        Server::this_binary("bare axum", "serve-bare", folder.path(), sink()?, &[])?,
        Server::service("this service", folder.path(), sink()?, &settings)?,
    ];
    println!();
    println!("Resident memory of idle connections that have had one answer");
    println!();
    println!(
        "| server | at rest (MiB) | with 1 (MiB) | with 1,000 (KiB each) | with 5,000 (KiB each) |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for server in &servers {
        let rest = server.resident_mib()?;
        let mut kept = OpenConnections::none();
        let mut columns = Vec::new();
        for count in COUNTS {
            runtime.block_on(kept.grow(server.address(), count))?;
            let now = server.resident_mib()?;
            let each = (now - rest) * 1_024.0 / count as f64;
            columns.push(if count == 1 { now } else { each });
        }
        server.is_sound()?;
        println!(
            "| {} | {rest:.1} | {:.1} | {:.1} | {:.1} |",
            server.name(),
            columns[0],
            columns[1],
            columns[2]
        );
    }
    Ok(())
}
