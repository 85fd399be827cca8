//! Deadlines of a connection that hyper does not have.
//!
//! hyper has one header timer, which starts when the connection becomes idle. It does not separate
//! a keep-alive connection (`http.idle_timeout`) from an incomplete header (`http.header_timeout`).
//! It covers neither HTTP/2 nor a client that does not read its answer. The bytes on the wire show
//! all of these cases.
//!
//! The beginning of a header that arrives in one read with a whole request is not detected. Such a
//! connection ends with the idle timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use quanta::Instant;

pub use self::timeouts::{ConnectionTimeouts, EndReason};

use crate::connection::atomic_instant::AtomicInstant;
use crate::connection::framing::Fault;
use crate::connection::windows::Windows;

mod flow_control;
mod timeouts;

/// The shared state of one connection. It has no lock, because it is written at every request and
/// rarely read.
#[derive(Clone)]
pub struct ConnectionDeadlines(Arc<State>);

struct State {
    patience: ConnectionTimeouts,
    /// Start of the connection. Moments are counted from it.
    born: Instant,
    /// Requests whose answers have not ended.
    in_flight: AtomicU32,
    /// Requests whose answers have not begun.
    working: AtomicU32,
    /// Number of requests so far. Only the connection's own task writes it.
    begun: AtomicU32,
    http2: AtomicBool,
    /// The connection was upgraded to another protocol.
    upgraded: AtomicBool,
    /// There were too many HTTP/2 frames that carry no request. `flooding` is the type of the last
    /// one.
    flooded: AtomicBool,
    flooding: AtomicU8,
    /// The number of the request whose framing is at fault, and the fault. 0 means none.
    fault: AtomicU64,
    /// End of the last answer.
    idle_since: AtomicInstant,
    /// Time since which a header is incomplete.
    header_since: AtomicInstant,
    /// Time since which the client has taken too few of the bytes that are ready for it.
    blocked_since: AtomicInstant,
    /// Bytes that the client has taken since then.
    blocked_taken: AtomicU64,
    /// Flow-control windows of an HTTP/2 client.
    windows: Windows,
}

/// A request in flight. It ends when this is dropped.
pub struct InFlightRequest {
    watch: ConnectionDeadlines,
    /// Its answer has begun.
    answered: bool,
}

impl ConnectionDeadlines {
    /// The watch of a new connection.
    #[must_use]
    pub fn new(patience: ConnectionTimeouts) -> Self {
        Self(Arc::new(State {
            patience,
            born: Instant::now(),
            in_flight: AtomicU32::new(0),
            working: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            http2: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
            flooding: AtomicU8::new(0),
            fault: AtomicU64::new(0),
            idle_since: AtomicInstant::default(),
            header_since: AtomicInstant::default(),
            blocked_since: AtomicInstant::default(),
            blocked_taken: AtomicU64::new(0),
            windows: Windows::default(),
        }))
    }

    pub(crate) fn patience(&self) -> ConnectionTimeouts {
        self.0.patience
    }

    pub(crate) fn windows(&self) -> &Windows {
        &self.0.windows
    }

    /// Time since which all answers wait for an HTTP/2 client to open its windows.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        let state = &*self.0;
        let stalls = state.windows.stalls();
        if stalls == 0 || stalls < state.in_flight() {
            return None;
        }
        // The answer that ended last may have been the last one that did not wait.
        let ended = state.idle_since.get(state.born);
        let stalled = state.windows.stalled_since.get(state.born);
        stalled.max(ended)
    }

    /// Records that the client begins to take too little of an HTTP/2 answer.
    pub(crate) fn stalled(&self) {
        self.0.windows.stalled_since.set_now(self.0.born);
        self.0.windows.add_stall();
    }

    /// Records that the client read fast enough, so that its wait begins anew.
    pub(crate) fn progressed(&self) {
        self.0.windows.stalled_since.set_now(self.0.born);
    }

    /// Records that the header of a request is complete.
    #[must_use]
    pub fn begin(&self) -> InFlightRequest {
        let state = &*self.0;
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        state.working.fetch_add(1, Ordering::Relaxed);
        let begun = state.begun.load(Ordering::Relaxed);
        state.begun.store(begun.wrapping_add(1), Ordering::Relaxed);
        if !state.http2.load(Ordering::Relaxed) {
            state.header_since.clear();
        }
        InFlightRequest {
            watch: self.clone(),
            answered: false,
        }
    }

    /// Records the fault of a request. Requests are counted from 1.
    pub(crate) fn refuse(&self, request: u32, fault: Fault) {
        let noted = u64::from(request) << 8 | u64::from(fault.number());
        self.0.fault.store(noted, Ordering::Relaxed);
    }

    /// Records that the connection ends because of too many frames that carry no request.
    pub(crate) fn flooded(&self, frame: u8) {
        self.0.flooding.store(frame, Ordering::Relaxed);
        self.0.flooded.store(true, Ordering::Relaxed);
    }

    /// The type of the frame that exceeded the limit.
    pub(crate) fn flood(&self) -> Option<u8> {
        let flooded = self.0.flooded.load(Ordering::Relaxed);
        flooded.then(|| self.0.flooding.load(Ordering::Relaxed))
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.0.upgraded.load(Ordering::Relaxed)
    }

    /// Records that HTTP/2 frames arrived, and whether a header block is open after them.
    pub(crate) fn frames_came(&self, incomplete: bool) {
        let state = &*self.0;
        state.http2.store(true, Ordering::Relaxed);
        match (incomplete, state.header_since.is_set()) {
            (true, false) => state.header_since.set_now(state.born),
            (false, true) => state.header_since.clear(),
            _ => {}
        }
    }

    /// Records that bytes of HTTP/1 arrived. When no request is in flight, they begin the next one.
    pub(crate) fn bytes_came(&self) {
        let state = &*self.0;
        if state.in_flight() == 0 && !state.header_since.is_set() {
            state.header_since.set_now(state.born);
        }
    }

    /// Records how many bytes were written, or that the write was blocked.
    pub(crate) fn wrote(&self, written: Poll<usize>) {
        let state = &*self.0;
        match (written, state.blocked_since.is_set()) {
            (Poll::Pending, false) => {
                state.blocked_taken.store(0, Ordering::Relaxed);
                state.blocked_since.set_now(state.born);
            }
            (Poll::Ready(bytes), true) => {
                let taken = state.blocked_taken.load(Ordering::Relaxed);
                let taken = taken.saturating_add(bytes as u64);
                state.blocked_taken.store(taken, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Records that all bytes for the client were written.
    pub(crate) fn flushed(&self) {
        if self.0.blocked_since.is_set() {
            self.0.blocked_since.clear();
        }
    }

    /// Whether no request is in flight and no bytes wait to be read by the client.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.in_flight() == 0 && !self.0.blocked_since.is_set()
    }

    /// Whether every request has its answer and the client does not read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.0.in_flight() == 0 && self.0.blocked_since.is_set()
    }

    /// Whether an HTTP/2 client has begun a request, so that a drain can send it GOAWAY. `None` for
    /// HTTP/1.1, whose answers carry `Connection: close` instead.
    #[must_use]
    pub fn may_go_away(&self) -> Option<bool> {
        let http2 = self.0.http2.load(Ordering::Relaxed);
        match (http2, self.0.begun.load(Ordering::Relaxed) > 0) {
            (true, served) => Some(served),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// Time since which all answers wait for the client to read.
    fn unread_since(&self) -> Option<Instant> {
        let state = &*self.0;
        if let Some(since) = state.blocked_since.get(state.born) {
            let at_work = state.working.load(Ordering::Acquire) > 0;
            return Some(since).filter(|_| !at_work);
        }
        self.stalled_since()
    }

    /// Whether all answers have waited at least `time` for the client to read.
    pub(crate) fn is_unread_for(&self, time: Duration) -> bool {
        self.unread_since()
            .is_some_and(|since| since.elapsed() >= time)
    }

    /// The deadline of the current wait, and its reason.
    fn deadline(&self) -> Option<(Instant, EndReason)> {
        let state = &*self.0;
        let patience = state.patience;
        if let Some(since) = state.blocked_since.get(state.born) {
            let taken = state.blocked_taken.load(Ordering::Relaxed);
            let waited = since.elapsed();
            if waited < patience.idle || taken == 0 || !patience.is_met(taken, waited) {
                return Some((since + patience.idle, EndReason::Write));
            }
            // The client reads at the required rate.
            state.blocked_taken.store(0, Ordering::Relaxed);
            state.blocked_since.set_now(state.born);
        }
        if let Some(since) = state.header_since.get(state.born) {
            return Some((since + patience.header, EndReason::Header));
        }
        if state.in_flight() > 0 {
            let since = self.stalled_since()?;
            return Some((since + patience.idle, EndReason::Write));
        }
        // Read after `in_flight`, so that it is at least as recent as the end that set `in_flight`
        // to 0.
        match state.idle_since.get(state.born) {
            Some(since) => Some((since + patience.idle, EndReason::Idle)),
            None => Some((state.born + patience.header, EndReason::Header)),
        }
    }

    /// Resolves when the client has kept the connection waiting for too long.
    pub async fn lapse(&self) -> EndReason {
        // A wait that begins during this sleep ends no earlier than the shorter time limit from
        // now. So no deadline is missed.
        let stride = self.0.patience.header.min(self.0.patience.idle);
        loop {
            let now = Instant::now();
            let wake = match self.deadline() {
                Some((deadline, lapse)) if deadline <= now => return lapse,
                Some((deadline, _)) => deadline.min(now + stride),
                None => now + stride,
            };
            tokio::time::sleep(wake - now).await;
        }
    }
}

impl InFlightRequest {
    /// The framing fault of the request. On HTTP/1 this is the last request.
    #[inline]
    pub(crate) fn fault(&self) -> Option<Fault> {
        let fault = self.watch.0.fault.load(Ordering::Relaxed);
        if fault == 0 {
            return None;
        }
        let [number, request @ ..] = fault.to_le_bytes();
        let begun = self.watch.0.begun.load(Ordering::Relaxed);
        Fault::of_number(number).filter(|_| request.starts_with(&begun.to_le_bytes()))
    }

    /// Records that the answer begins. Returns whether it is sent over HTTP/2.
    pub(crate) fn answer(&mut self) -> bool {
        let state = &*self.watch.0;
        self.answered = true;
        state.working.fetch_sub(1, Ordering::Release);
        state.http2.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self) -> &ConnectionDeadlines {
        &self.watch
    }

    /// Records that the connection leaves HTTP with this answer.
    pub(crate) fn upgrade(&self) {
        self.watch.0.upgraded.store(true, Ordering::Relaxed);
    }
}

impl State {
    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let state = &*self.watch.0;
        if !self.answered {
            state.working.fetch_sub(1, Ordering::Release);
        }
        state.idle_since.set_now(state.born);
        state.in_flight.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
