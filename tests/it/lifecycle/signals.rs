//! The effect of each signal on a serving process.

use std::fs::File;

use futures_util::future::join_all;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::drain::{in_flight, lines, slow_pings};
use crate::support::{Backend, Service, eventually};

/// Sends a signal while a request is in progress. Returns its status and the exit code.
async fn signal_during_request(mut service: Service, signal: &str) -> (u16, Option<i32>) {
    slow_pings(&service, "700ms").await;
    let asked = tokio::spawn(service.client.get(service.url("/api/v1/ping")).send());
    in_flight(&service, 1.0).await;
    service.signal(signal);
    let status = asked.await.unwrap().expect("an answer").status();
    (status.as_u16(), service.wait().await.code())
}

#[tokio::test]
async fn terminating_signals_start_the_drain() {
    let drained = ["TERM", "INT", "QUIT", "XCPU", "PWR"].map(async |signal| {
        let service = Service::builder(Backend::Sqlite)
            .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
            .start()
            .await;
        (signal, signal_during_request(service, signal).await)
    });
    for (signal, outcome) in join_all(drained).await {
        assert_eq!(outcome, (200, Some(0)), "{signal}");
    }
}

#[tokio::test]
async fn other_signals_are_ignored() {
    const LOGGED: [&str; 11] = [
        "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "XFSZ", "IO", "STKFLT", "34", "64",
    ];
    const SILENT: [&str; 4] = ["PIPE", "URG", "WINCH", "CHLD"];
    let mut service = Service::start(Backend::Sqlite).await;
    for signal in LOGGED.iter().chain(&SILENT) {
        service.signal(signal);
    }
    let said = || {
        let logs = service.logs();
        let lines = lines(&logs, "signal ignored");
        lines
            .iter()
            .map(|line| line["signal"].to_string())
            .collect::<Vec<_>>()
    };
    eventually("all of them arrived", async || {
        (said().len() >= LOGGED.len()).then_some(())
    })
    .await;
    for signal in LOGGED
        .iter()
        .filter(|signal| signal.parse::<u32>().is_err())
    {
        let name = format!("\"SIG{signal}\"");
        assert!(said().contains(&name), "{name}: {:?}", said());
    }
    // A repeated signal is not logged again.
    service.signal("USR1");
    service.signal("HUP");
    let answer = service.client.get(service.url("/api/v1/ping")).send();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(service.terminate().await, Some(0));
    let logs = service.logs();
    assert_eq!(lines(&logs, "signal ignored").len(), LOGGED.len());
}

#[tokio::test]
async fn a_closed_terminal_starts_the_drain() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let user_side = File::options().read(true).open(name.to_str().unwrap());
    let service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .stdin(user_side.unwrap())
        .start()
        .await;
    assert_eq!(signal_during_request(service, "HUP").await, (200, Some(0)));
}
