//! The allocator of the process.
//!
//! The one place with `unsafe`: jemalloc finds its options in a symbol of a fixed
//! name, and exporting a symbol can clash with another of that name. This one is
//! jemalloc's own weak symbol, which exists to be overridden. See ADR 0013.

#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Profiling is compiled in and prepared (it cannot be later), but inactive until a
/// heap profile is asked for: then one allocation in 512 KiB is sampled.
///
/// A background thread gives pages back. Without it only allocations do that, and a
/// process that is idle after a burst keeps the burst's memory. A quarter of a second
/// spans the pauses between requests; after jemalloc's ten seconds, the memory of a
/// hashed password would still count at rest.
///
/// `_RJEM_MALLOC_CONF` in the environment wins.
const OPTIONS: &[u8] =
    b"background_thread:true,dirty_decay_ms:250,prof:true,prof_active:false,lg_prof_sample:19\0";

/// A C string as C sees it: its address.
#[repr(transparent)]
struct Options(#[allow(dead_code)] *const u8);

// SAFETY: the pointer is to a constant, which nobody writes.
unsafe impl Sync for Options {}

/// `const char *malloc_conf` of jemalloc(3), with the prefix of its build.
// SAFETY: overrides jemalloc's weak definition of the same type; no other crate
// defines it, or the link would fail.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: Options = Options(OPTIONS.as_ptr());
