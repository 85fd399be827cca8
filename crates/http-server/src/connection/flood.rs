//! Limit of HTTP/2 frames that carry no request.
//!
//! h2 answers or ignores PING, SETTINGS, PRIORITY and frames of unknown types as fast as they
//! arrive. It accepts any number of `WINDOW_UPDATE`. A client that sends nothing else uses a whole
//! processor core. Frames that belong to requests and large answers are allowed in addition: a
//! reset, a priority or a window for each of them.

use quanta::Instant;

/// Additional frames that each request allows: windows, a priority, a reset.
const PER_REQUEST: u64 = 8;
/// Bytes of answers that allow one additional frame, which opens a window.
const BYTES_PER_FRAME: u64 = 1_024;

/// Payload bytes that count as one frame. A frame with more counts as several, because SETTINGS,
/// GOAWAY and unknown types may have up to 16 KiB.
const PAYLOAD_OF_ONE: u64 = 64;
/// Seconds of the allowed rate that requests and answers may earn in advance.
const SECONDS_KEPT: u64 = 64;

/// Types of frames (RFC 9113, section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
    pub(crate) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Names of frame types: the label `frame`.
pub(crate) const LABELS: [&str; 9] = [
    "continuation",
    "data",
    "goaway",
    "other",
    "ping",
    "priority",
    "rst_stream",
    "settings",
    "window_update",
];

/// The name of a frame type.
pub(crate) fn label(frame: u8) -> &'static str {
    match frame {
        kind::DATA => "data",
        kind::PRIORITY | kind::PRIORITY_UPDATE => "priority",
        kind::RST_STREAM => "rst_stream",
        kind::SETTINGS => "settings",
        kind::PING => "ping",
        kind::GOAWAY => "goaway",
        kind::WINDOW_UPDATE => "window_update",
        kind::CONTINUATION => "continuation",
        _ => "other",
    }
}

/// Counts the frames of one connection that carry no request.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Allowed frames a second.
    rate: u64,
    /// Frames since the count began, less those that were earned.
    frames: u64,
    /// Beginning of the count.
    began: Instant,
    /// Number of frames that are allowed in addition.
    earned: u64,
    /// Bytes of answers that have not earned a frame yet.
    sent: u64,
}

impl Budget {
    /// A budget of `rate` frames a second.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate: rate.into(),
            frames: 0,
            began: Instant::now(),
            earned: 0,
            sent: 0,
        }
    }

    /// Adds the frames that a request allows.
    pub(crate) fn request(&mut self) {
        self.earned = (self.earned + PER_REQUEST).min(self.most());
    }

    /// Adds the frames that `bytes` of answers allow.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes as u64).min(self.most() * BYTES_PER_FRAME);
    }

    /// Upper bound of the earned frames, so that unused ones do not add up without a limit.
    fn most(&self) -> u64 {
        self.rate * SECONDS_KEPT
    }

    /// Counts a frame that carries no request and has `payload` bytes. Returns whether the limit is
    /// exceeded.
    pub(crate) fn is_exceeded(&mut self, payload: usize) -> bool {
        self.frames += 1 + payload as u64 / PAYLOAD_OF_ONE;
        self.frames > self.rate && self.is_over()
    }

    /// Called once for as many frames as a second allows, so that the clock is read rarely.
    fn is_over(&mut self) -> bool {
        self.earned += self.sent / BYTES_PER_FRAME;
        self.sent %= BYTES_PER_FRAME;
        let used = self.earned.min(self.frames);
        self.frames -= used;
        self.earned -= used;
        if self.frames <= self.rate {
            return false;
        }
        let now = Instant::now();
        let allowed = (now - self.began).as_millis() * u128::from(self.rate) / 1_000;
        self.began = now;
        let frames = std::mem::take(&mut self.frames);
        u128::from(frames) > allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The number of the first frame that exceeds the limit.
    fn flood(budget: &mut Budget) -> Option<usize> {
        (1..100_000).find(|_| budget.is_exceeded(8))
    }

    #[test]
    fn frames_that_ask_for_nothing_are_few() {
        let mut budget = Budget::new(100);
        assert_eq!(flood(&mut budget), Some(101));
        // A count that stayed below the rate begins anew and keeps nothing.
        let mut budget = Budget::new(100);
        budget.began -= Duration::from_hours(1);
        assert_eq!(flood(&mut budget), Some(202));
    }

    #[test]
    fn requests_and_answers_bring_frames_with_them() {
        let mut budget = Budget::new(100);
        for _ in 0..1_000 {
            budget.request();
            for _ in 0..PER_REQUEST {
                assert!(!budget.is_exceeded(8));
            }
        }
        for _ in 0..1_000 {
            budget.sent(2 * 1_024);
            assert!(!budget.is_exceeded(4) && !budget.is_exceeded(8));
        }
        let left = flood(&mut budget).expect("nothing is earned any more");
        assert!(left <= 101, "{left}");
        for _ in 0..1_000_000 {
            budget.request();
            budget.sent(1_024);
        }
        let left = flood(&mut budget).expect("what was earned is not kept");
        assert!(left < 20_000, "{left}");
    }
}
