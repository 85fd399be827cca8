//! `/debug/pprof/heap`: who holds the memory, as jemalloc samples it.
//!
//! Sampling is inactive until somebody asks, so a profile shows what was allocated
//! while it ran (and while earlier ones ran) and was still held at its end: what a
//! leak looks like. A process that is started with
//! `_RJEM_MALLOC_CONF=prof_active:true` shows all of its life.

use crate::platform::http::ProblemResponse;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use tikv_jemalloc_ctl::{Access as _, AsName as _};

use super::format::{Builder, Frame};
use super::{Format, Profiler, Wanted, pprof};
use crate::platform::http::problem::codes::INVALID_QUERY;
use crate::platform::http::{Problem, Query};

const ACTIVE: &[u8] = b"prof.active\0";
const DUMP: &[u8] = b"prof.dump\0";

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
enum HeapError {
    #[error("the allocator refused: {0}")]
    Allocator(tikv_jemalloc_ctl::Error),
    #[error("the file in memory failed: {0}")]
    File(#[from] std::io::Error),
    #[error("the allocator wrote something that is no heap profile")]
    Format,
}

/// Ends with the request: dropped early, sampling stops.
pub(super) async fn profile(
    State(profiler): State<Profiler>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ProblemResponse> {
    let time = wanted.time()?;
    if wanted.format != Format::Pprof {
        let detail = "A heap profile has the format pprof.";
        return Err(ProblemResponse(Problem::new(INVALID_QUERY, detail)));
    }
    let permit = profiler.begin()?;
    tracing::info!(seconds = time.as_secs(), "a heap profile is taken");
    let sampling = Sampling::start().map_err(Problem::internal)?;
    tokio::time::sleep(time).await;
    let profile = tokio::task::spawn_blocking(move || {
        let text = dump();
        drop(sampling);
        let profile = text.and_then(|text| encode(&text, time).ok_or(HeapError::Format));
        drop(permit);
        profile
    });
    let profile = profile.await.map_err(Problem::internal)?;
    Ok(pprof(profile.map_err(Problem::internal)?))
}

/// Sampling that stops when this is dropped, unless it ran before.
struct Sampling {
    before: bool,
}

impl Sampling {
    fn start() -> Result<Self, HeapError> {
        let before = ACTIVE.name().update(true).map_err(HeapError::Allocator)?;
        Ok(Self { before })
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        if let Err(error) = ACTIVE.name().write(self.before) {
            tracing::error!(%error, "heap sampling goes on");
        }
    }
}

/// What jemalloc writes. It takes the name of a file; this one is in memory, where
/// it can be written in a container whose file system cannot.
fn dump() -> Result<String, HeapError> {
    static FILE: OnceLock<(File, Box<[u8]>)> = OnceLock::new();
    if FILE.get().is_none() {
        let file = rustix::fs::memfd_create("heap profile", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)?;
        let name = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        // Profiles are taken one at a time: nobody else was here first.
        let _first = FILE.set((File::from(file), name.into_bytes().into_boxed_slice()));
    }
    let (file, name) = FILE.get().ok_or(HeapError::Format)?;
    DUMP.name().write(&**name).map_err(HeapError::Allocator)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| HeapError::Format)?;
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, 0)?;
    // Its memory would stay in use.
    file.set_len(0)?;
    String::from_utf8(text).map_err(|_| HeapError::Format)
}

/// Translates `heap_v2`, the text format of jemalloc and jeprof: a line of addresses
/// that begins with `@`, innermost first, and after it a line `t*:` with what the
/// stack holds, `objects: bytes [...]`.
fn encode(text: &str, took: Duration) -> Option<Vec<u8>> {
    let mut lines = text.lines();
    let period: u32 = lines.next()?.strip_prefix("heap_v2/")?.parse().ok()?;
    let values = [("inuse_objects", "count"), ("inuse_space", "bytes")];
    let mut builder = Builder::new(&values, i64::from(period), took);
    let mut stack = None;
    for line in lines {
        if line.starts_with("MAPPED_LIBRARIES") {
            break;
        }
        if let Some(addresses) = line.strip_prefix("@ ") {
            stack = Some(addresses);
        } else if let Some(held) = line.trim_start().strip_prefix("t*: ")
            && let Some(addresses) = stack.take()
        {
            let (objects, rest) = held.split_once(": ")?;
            let bytes = rest.split(' ').next()?;
            let held = scale(objects.parse().ok()?, bytes.parse().ok()?, period);
            builder.sample(addresses.split(' ').map(resolve), held.to_vec(), None);
        }
    }
    Some(builder.finish())
}

/// What the sampled objects stand for. An object of `size` bytes is sampled with the
/// probability 1 - exp(-size / period): the correction of jeprof for this format.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "an estimate; casts saturate"
)]
fn scale(objects: u64, bytes: u64, period: u32) -> [i64; 2] {
    if objects == 0 {
        return [0, 0];
    }
    let (objects, bytes) = (objects as f64, bytes as f64);
    let factor = 1.0 / (1.0 - (-bytes / objects / f64::from(period)).exp());
    [(objects * factor) as i64, (bytes * factor) as i64]
}

/// The functions at an address of a stack.
fn resolve(address: &str) -> Vec<Frame> {
    let parsed = address
        .strip_prefix("0x")
        .and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let mut place = Vec::new();
    // It is where the call returns to: the call itself stands before it.
    let call = parsed.unwrap_or_default().saturating_sub(1);
    backtrace::resolve(std::ptr::without_provenance_mut(call), |symbol| {
        place.push(Frame {
            function: symbol.name().map_or_else(
                || address.to_owned(),
                // Without the hash that Rust appends.
                |name| format!("{name:#}"),
            ),
            file: symbol
                .filename()
                .map(|file| file.display().to_string())
                .unwrap_or_default(),
            line: symbol.lineno().unwrap_or_default(),
        });
    });
    if place.is_empty() {
        place.push(Frame {
            function: address.to_owned(),
            file: String::new(),
            line: 0,
        });
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_stand_for_more_than_large_ones() {
        // One object of 512 bytes in 512 KiB of them is seen.
        let [objects, bytes] = scale(1, 512, 1 << 19);
        assert!((1_000..1_050).contains(&objects), "{objects}");
        assert_eq!(bytes / objects, 512);
        // A large one is seen nearly always.
        assert_eq!(scale(1, 1 << 24, 1 << 19), [1, 1 << 24]);
        assert_eq!(scale(0, 0, 1 << 19), [0, 0]);
    }

    #[test]
    fn anything_but_a_heap_profile_is_refused() {
        let took = Duration::from_secs(1);
        assert!(encode("heap_v2/524288\n  t*: 0: 0 [0: 0]\n", took).is_some());
        for text in ["", "heap_v1/1", "heap_v2/524288\n@ 0x1\n  t*: x: 1 [0: 0]"] {
            assert!(encode(text, took).is_none(), "{text}");
        }
    }
}
