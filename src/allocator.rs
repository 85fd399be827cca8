//! The allocator of the process.
//!
//! This is the only module with `unsafe`. jemalloc reads its options from a symbol with a fixed
//! name, and an exported symbol can clash with another one of the same name. This symbol is weak in
//! jemalloc, so that programs can override it. See ADR 0013.

#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Profiling is compiled in and prepared, which cannot be done later, but inactive. A heap profile
/// activates it. Then one allocation in 512 KiB is sampled.
///
/// A background thread returns unused pages to the system. Without it only allocations do that, and
/// a process that is idle after a burst keeps the memory of the burst. The decay of 250 ms spans
/// the pauses between requests. With jemalloc's default of ten seconds, an idle process would still
/// include the memory of a hashed password.
///
/// `_RJEM_MALLOC_CONF` in the environment takes precedence.
const OPTIONS: &[u8] =
    b"background_thread:true,dirty_decay_ms:250,prof:true,prof_active:false,lg_prof_sample:19\0";

/// A C string, represented by its address.
#[repr(transparent)]
struct Options(*const u8);

// SAFETY: the pointer is to a constant that is never written.
unsafe impl Sync for Options {}

/// `const char *malloc_conf` of jemalloc(3), with the prefix of its build.
// SAFETY: overrides jemalloc's weak definition of the same type. No other crate defines the symbol,
// or the link would fail.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: Options = Options(OPTIONS.as_ptr());
