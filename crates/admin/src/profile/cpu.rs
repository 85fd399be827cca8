//! `/debug/pprof/profile`: a CPU profile. A timer samples the stacks of the running threads.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http_server::extract::Query;
use http_server::problem::ProblemResponse;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use request::Problem;

use super::format::{Builder, Frame};
use super::{Format, ProfileRequest, Profiler, pprof, svg};

/// Samples in a second of processor time. A prime below 100 does not run in step with periodic
/// work.
const FREQUENCY: i32 = 99;
/// Processor time of one sample, in nanoseconds.
const PERIOD: i64 = 1_000_000_000 / FREQUENCY as i64;

/// Libraries in which no stack is unwound, because a sample there may hold the lock that unwinding
/// needs.
const NOT_UNWOUND: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// Takes a profile. If the request is dropped early, the timer stops.
pub(crate) async fn profile(
    State(profiler): State<Profiler>,
    Query(wanted): Query<ProfileRequest>,
) -> Result<Response, ProblemResponse> {
    let time = wanted.time()?;
    let permit = profiler.begin()?;
    tracing::info!(seconds = time.as_secs(), "a CPU profile was started");
    let guard = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&NOT_UNWOUND)
        .build()
        .map_err(Problem::internal)?;
    tokio::time::sleep(time).await;
    // Resolving the names reads the whole symbol table, so it runs on a blocking thread.
    let rendered = tokio::task::spawn_blocking(move || {
        let rendered = render(guard, wanted.format, time);
        drop(permit);
        rendered
    });
    let rendered = rendered.await.map_err(Problem::internal)?;
    let bytes = rendered.map_err(Problem::internal)?;
    Ok(match wanted.format {
        Format::Pprof => pprof(bytes),
        Format::Svg => svg(bytes),
    })
}

fn render(
    guard: ProfilerGuard<'static>,
    format: Format,
    took: Duration,
) -> Result<Vec<u8>, pprof::Error> {
    let report = guard.report().build()?;
    // Stops the timer, because rendering needs no more samples.
    drop(guard);
    match format {
        Format::Pprof => Ok(encode(&report, took)),
        Format::Svg => draw(&report),
    }
}

fn encode(report: &Report, took: Duration) -> Vec<u8> {
    let values = [("samples", "count"), ("cpu", "nanoseconds")];
    let mut builder = Builder::new(&values, PERIOD, took);
    for (stack, count) in &report.data {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        let places = stack.frames.iter().map(|place| {
            let frame = |symbol: &pprof::Symbol| Frame {
                function: symbol.name(),
                file: symbol.filename().into_owned(),
                line: symbol.lineno(),
            };
            place.iter().map(frame).collect()
        });
        let thread = stack.thread_name_or_id();
        let value = vec![count, count.saturating_mul(PERIOD)];
        builder.sample(places, value, Some(&thread));
    }
    builder.finish()
}

fn draw(report: &Report) -> Result<Vec<u8>, pprof::Error> {
    const IDLE: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"400\" height=\"40\">\
        <text x=\"10\" y=\"25\">No samples: the process was idle.</text></svg>";
    let mut image = Vec::new();
    report.flamegraph(&mut image)?;
    Ok(if image.is_empty() {
        IDLE.to_vec()
    } else {
        image
    })
}
