//! `/debug/pprof/heap`: allocated memory by stack, as jemalloc samples it.
//!
//! Sampling is inactive by default. A profile contains memory that was allocated while it (or an
//! earlier profile) ran and that was still allocated at its end, which is where leaks show. A
//! process that is started with `_RJEM_MALLOC_CONF=prof_active:true` includes its whole life.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http_server::extract::Query;
use http_server::problem::ProblemResponse;
use request::Problem;
use request::problem::codes::INVALID_QUERY;
use tikv_jemalloc_ctl::{Access as _, AsName as _};

use super::format::{Builder, Frame};
use super::{Format, ProfileRequest, Profiler, pprof};

const ACTIVE: &[u8] = b"prof.active\0";
const DUMP: &[u8] = b"prof.dump\0";

/// Reasons why there is no profile.
#[derive(Debug, thiserror::Error)]
enum HeapError {
    #[error("the allocator returned an error: {0}")]
    Allocator(tikv_jemalloc_ctl::Error),
    #[error("the in-memory file of the profile failed: {0}")]
    File(#[from] std::io::Error),
    #[error("the dump of the allocator is not a heap profile")]
    Format,
}

/// Takes a profile. If the request is dropped early, sampling stops.
pub(crate) async fn profile(
    State(profiler): State<Profiler>,
    Query(wanted): Query<ProfileRequest>,
) -> Result<Response, ProblemResponse> {
    let time = wanted.time()?;
    if wanted.format != Format::Pprof {
        let detail = "A heap profile has the format pprof.";
        return Err(ProblemResponse(Problem::new(INVALID_QUERY, detail)));
    }
    let permit = profiler.begin()?;
    tracing::info!(seconds = time.as_secs(), "a heap profile was started");
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

/// Sampling that stops when this is dropped, unless it was active before.
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
            tracing::error!(%error, "heap sampling could not be stopped");
        }
    }
}

/// Returns the dump of jemalloc, which writes it to a file by name. The file is in memory, because
/// the file system of a container may be read-only.
fn dump() -> Result<String, HeapError> {
    static FILE: OnceLock<(File, Box<[u8]>)> = OnceLock::new();
    if FILE.get().is_none() {
        let file = rustix::fs::memfd_create("heap profile", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)?;
        let name = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        // Profiles are taken one at a time, so the cell is still empty.
        let _first = FILE.set((File::from(file), name.into_bytes().into_boxed_slice()));
    }
    let (file, name) = FILE.get().ok_or(HeapError::Format)?;
    DUMP.name().write(&**name).map_err(HeapError::Allocator)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| HeapError::Format)?;
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, 0)?;
    // Frees the memory of the file.
    file.set_len(0)?;
    String::from_utf8(text).map_err(|_| HeapError::Format)
}

/// Translates `heap_v2`, the text format of jemalloc and jeprof. A line that begins with `@` holds
/// the addresses of a stack, innermost first. The line `t*:` after it holds the memory of that
/// stack as `objects: bytes [...]`.
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

/// Estimates the allocated objects from the sampled ones. An object of `size` bytes is sampled with
/// the probability 1 - exp(-size / period). This is the correction of jeprof for the format.
#[expect(
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
    // The address is where the call returns to, and the call is before it.
    let call = parsed.unwrap_or_default().saturating_sub(1);
    backtrace::resolve(std::ptr::without_provenance_mut(call), |symbol| {
        place.push(Frame {
            function: symbol.name().map_or_else(
                || address.to_owned(),
                // The alternate form omits the hash that Rust appends.
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
        // One object of 512 bytes is sampled for every 512 KiB of them.
        let [objects, bytes] = scale(1, 512, 1 << 19);
        assert!((1_000..1_050).contains(&objects), "{objects}");
        assert_eq!(bytes / objects, 512);
        // A large object is nearly always sampled.
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
