//! What a connection is waiting for, and since when: the deadlines that hyper
//! does not have.
//!
//! hyper's one header timer starts when the connection becomes idle, so it cannot
//! tell a keep-alive connection (`http.idle_timeout`) from a half-sent header
//! (`http.header_timeout`), has nothing for HTTP/2, and none for a client that
//! does not read its answer. The bytes on the wire tell all of them apart. What
//! came in one piece with a whole request is not seen to be half a header; such a
//! connection ends with the idle timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use quanta::Instant;

pub use self::patience::{Lapse, Patience};

pub(crate) use self::patience::Moment;
use crate::connection::framing::Fault;
use crate::connection::windows::Windows;

mod patience;

/// The shared state of one connection. No lock: it is written at every request, and
/// hardly ever read.
#[derive(Clone)]
pub struct Watch(Arc<State>);

struct State {
    patience: Patience,
    /// What moments are counted from.
    born: Instant,
    /// Requests whose answers have not ended.
    in_flight: AtomicU32,
    /// Requests whose answers have not begun.
    working: AtomicU32,
    /// Requests that have come; the connection's own task counts them.
    begun: AtomicU32,
    http2: AtomicBool,
    /// The connection speaks another protocol now.
    upgraded: AtomicBool,
    /// There were too many HTTP/2 frames that ask for nothing; the last had this type.
    flooded: AtomicBool,
    flooding: AtomicU8,
    /// The request whose framing is at fault, and how; 0 is none.
    fault: AtomicU64,
    /// When an answer ended last.
    idle_since: Moment,
    /// Since when a header is incomplete.
    header_since: Moment,
    /// Since when the client has taken too few of the bytes that we have for it.
    blocked_since: Moment,
    /// How many it has taken since then.
    blocked_taken: AtomicU64,
    /// What an HTTP/2 client lets us send.
    windows: Windows,
}

/// A request in flight; ends when dropped.
pub struct Flight {
    watch: Watch,
    /// Its answer has begun.
    answered: bool,
}

impl Watch {
    /// The watch of a new connection.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
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
            idle_since: Moment::default(),
            header_since: Moment::default(),
            blocked_since: Moment::default(),
            blocked_taken: AtomicU64::new(0),
            windows: Windows::default(),
        }))
    }

    pub(crate) fn patience(&self) -> Patience {
        self.0.patience
    }

    pub(crate) fn windows(&self) -> &Windows {
        &self.0.windows
    }

    /// Since when every answer waits for an HTTP/2 client to open its windows.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        let state = &*self.0;
        let stalls = state.windows.stalls();
        if stalls == 0 || stalls < state.in_flight() {
            return None;
        }
        // An answer that ended may have been the last that did not wait.
        let ended = state.idle_since.get(state.born);
        let stalled = state.windows.stalled_since.get(state.born);
        stalled.max(ended)
    }

    /// The client takes too little of an HTTP/2 answer from now on.
    pub(crate) fn stalled(&self) {
        self.0.windows.stalled_since.set_now(self.0.born);
        self.0.windows.add_stall();
    }

    /// The client has caught up with what was given, and is to take more.
    pub(crate) fn progressed(&self) {
        self.0.windows.stalled_since.set_now(self.0.born);
    }

    /// Notes that the header of a request is complete.
    #[must_use]
    pub fn begin(&self) -> Flight {
        let state = &*self.0;
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        state.working.fetch_add(1, Ordering::Relaxed);
        let begun = state.begun.load(Ordering::Relaxed);
        state.begun.store(begun.wrapping_add(1), Ordering::Relaxed);
        if !state.http2.load(Ordering::Relaxed) {
            state.header_since.clear();
        }
        Flight {
            watch: self.clone(),
            answered: false,
        }
    }

    /// Notes the fault of a request, counted from 1.
    #[cold]
    pub(crate) fn refuse(&self, request: u32, fault: Fault) {
        let noted = u64::from(request) << 8 | u64::from(fault.number());
        self.0.fault.store(noted, Ordering::Relaxed);
    }

    /// Notes that the connection ends for too many frames that ask for nothing.
    #[cold]
    pub(crate) fn flooded(&self, frame: u8) {
        self.0.flooding.store(frame, Ordering::Relaxed);
        self.0.flooded.store(true, Ordering::Relaxed);
    }

    /// The type of the frame that was one too many.
    pub(crate) fn flood(&self) -> Option<u8> {
        let flooded = self.0.flooded.load(Ordering::Relaxed);
        flooded.then(|| self.0.flooding.load(Ordering::Relaxed))
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.0.upgraded.load(Ordering::Relaxed)
    }

    /// Notes that HTTP/2 frames came, and whether they leave a header block open.
    pub(crate) fn frames_came(&self, incomplete: bool) {
        let state = &*self.0;
        state.http2.store(true, Ordering::Relaxed);
        match (incomplete, state.header_since.is_set()) {
            (true, false) => state.header_since.set_now(state.born),
            (false, true) => state.header_since.clear(),
            _ => {}
        }
    }

    /// Notes that bytes of HTTP/1 came. Outside of a request they are the beginning of
    /// the next one.
    pub(crate) fn bytes_came(&self) {
        let state = &*self.0;
        if state.in_flight() == 0 && !state.header_since.is_set() {
            state.header_since.set_now(state.born);
        }
    }

    /// Notes that so many bytes were written, or that none could be.
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

    /// Notes that all bytes for the client were written.
    pub(crate) fn flushed(&self) {
        if self.0.blocked_since.is_set() {
            self.0.blocked_since.clear();
        }
    }

    /// Whether nothing is in flight and nothing waits to be read by the client.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.in_flight() == 0 && !self.0.blocked_since.is_set()
    }

    /// Whether every request has its answer, and the client does not read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.0.in_flight() == 0 && self.0.blocked_since.is_set()
    }

    /// Whether an HTTP/2 client has had an answer, or begun a request: time to send it
    /// elsewhere in a drain. `None` for HTTP/1.1, which is asked in its answers.
    #[must_use]
    pub fn may_go_away(&self) -> Option<bool> {
        let http2 = self.0.http2.load(Ordering::Relaxed);
        match (http2, self.0.begun.load(Ordering::Relaxed) > 0) {
            (true, served) => Some(served),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// Since when every answer waits for the client to read.
    fn unread_since(&self) -> Option<Instant> {
        let state = &*self.0;
        if let Some(since) = state.blocked_since.get(state.born) {
            let at_work = state.working.load(Ordering::Acquire) > 0;
            return Some(since).filter(|_| !at_work);
        }
        self.stalled_since()
    }

    /// Whether every answer has waited so long for the client to read.
    pub(crate) fn is_unread_for(&self, time: Duration) -> bool {
        self.unread_since()
            .is_some_and(|since| since.elapsed() >= time)
    }

    /// When the present wait will have been too long, and for what.
    fn deadline(&self) -> Option<(Instant, Lapse)> {
        let state = &*self.0;
        let patience = state.patience;
        if let Some(since) = state.blocked_since.get(state.born) {
            let taken = state.blocked_taken.load(Ordering::Relaxed);
            let waited = since.elapsed();
            if waited < patience.idle || taken == 0 || !patience.is_met(taken, waited) {
                return Some((since + patience.idle, Lapse::Write));
            }
            // It reads at the rate that is asked of it.
            state.blocked_taken.store(0, Ordering::Relaxed);
            state.blocked_since.set_now(state.born);
        }
        if let Some(since) = state.header_since.get(state.born) {
            return Some((since + patience.header, Lapse::Header));
        }
        if state.in_flight() > 0 {
            let since = self.stalled_since()?;
            return Some((since + patience.idle, Lapse::Write));
        }
        // Read after `in_flight`: it is no older than the end that brought that to 0.
        match state.idle_since.get(state.born) {
            Some(since) => Some((since + patience.idle, Lapse::Idle)),
            None => Some((state.born + patience.header, Lapse::Header)),
        }
    }

    /// Resolves when the client has let the connection wait for too long.
    pub async fn lapse(&self) -> Lapse {
        // A wait that begins while this sleeps ends no earlier than the shorter
        // patience from now, so no deadline is overslept.
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

impl Flight {
    /// What is wrong with the framing of the request; on HTTP/1 it is the last one.
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

    /// Notes that the answer begins; returns whether it goes out by HTTP/2.
    pub(crate) fn answer(&mut self) -> bool {
        let state = &*self.watch.0;
        self.answered = true;
        state.working.fetch_sub(1, Ordering::Release);
        state.http2.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Notes that the connection leaves HTTP with this answer.
    #[cold]
    pub(crate) fn upgrade(&self) {
        self.watch.0.upgraded.store(true, Ordering::Relaxed);
    }
}

impl State {
    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }
}

impl Drop for Flight {
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
