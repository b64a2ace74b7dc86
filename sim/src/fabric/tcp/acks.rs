//! When to acknowledge: at once, or later in the hope that data will carry it.
//!
//! Linux's rules. The first segments and whatever looks like trouble are acknowledged at once. Once the application has
//! answered a segment soon after it came, the connection counts as a dialogue, and acknowledgements wait for 40 to
//! 200 ms, learnt from the pace of arrivals. More than one full segment never waits. Not modelled: the compression of
//! acknowledgements out of order, which is worth at most a millisecond.

use hailer::Timestamp;

use super::config::Config;
use super::rtt::{elapsed_us, later};

/// How many segments at most are acknowledged at once in a row.
const QUICK_MAX: u32 = 16;
/// The size of segments before any was seen (RFC 9293, 3.7.1).
const SEGMENT_BYTES_INITIAL: u32 = 536;

/// The acknowledgements that one endpoint owes.
#[derive(Debug)]
pub(super) struct Acknowledger {
    /// One must leave now.
    pub(super) is_due: bool,
    is_owed: bool,
    is_dialogue: bool,
    small_arrivals: u8,
    quick: u8,
    /// The largest segment seen.
    pub(super) segment_bytes: u32,
    /// How long the next one may wait; 0 before the first data.
    patience_us: u32,
    /// When one leaves at the latest; never when none is owed.
    pub(super) deadline: Timestamp,
    last_arrival: Timestamp,
}

impl Acknowledger {
    pub(super) fn new(segment_bytes_max: u32) -> Self {
        Self {
            is_due: false,
            is_owed: false,
            is_dialogue: false,
            small_arrivals: 0,
            quick: 0,
            segment_bytes: SEGMENT_BYTES_INITIAL.min(segment_bytes_max),
            patience_us: 0,
            deadline: Timestamp::NEVER,
            last_arrival: Timestamp::ZERO,
        }
    }

    /// Bytes came in order.
    pub(super) fn note_arrival(
        &mut self,
        now: Timestamp,
        len: u32,
        window: u32,
        timeout_us: u64,
        config: &Config,
    ) {
        if len >= self.segment_bytes {
            self.segment_bytes = len;
        } else {
            self.small_arrivals = self.small_arrivals.saturating_add(1);
        }
        let floor = config.delayed_ack_min_ms * 1000;
        if self.patience_us == 0 {
            self.hurry(window);
            self.patience_us = floor;
        } else {
            let pause = elapsed_us(now, self.last_arrival);
            if pause <= u64::from(floor / 2) {
                self.patience_us = self.patience_us / 2 + floor / 2;
            } else if pause < u64::from(self.patience_us) {
                self.patience_us = (u64::from(self.patience_us / 2) + pause).min(timeout_us) as u32;
            } else if pause > timeout_us {
                // The sender may have gone back to one segment and waits for each answer.
                self.hurry(window);
            }
        }
        self.last_arrival = now;
        self.is_owed = true;
    }

    /// Bytes came that have to wait for others: answered at once, which counts as any other answer.
    pub(super) fn note_early(&mut self) {
        self.is_owed = true;
        self.is_due = true;
    }

    fn hurry(&mut self, window: u32) {
        let quick = (window / (2 * self.segment_bytes)).clamp(2, QUICK_MAX) as u8;
        self.quick = self.quick.max(quick);
    }

    /// Something came that shows trouble: the next segments are acknowledged at once, this one included.
    pub(super) fn note_trouble(&mut self, window: u32, config: &Config) {
        self.hurry(window);
        self.is_dialogue = false;
        self.patience_us = config.delayed_ack_min_ms * 1000;
        self.is_due = true;
    }

    /// The peer has finished: the answer may wait for our own FIN.
    pub(super) fn note_fin(&mut self) {
        self.is_owed = true;
        self.is_dialogue = true;
    }

    /// Decides on what [`Acknowledger::note_arrival`] and [`Acknowledger::note_fin`] noted. `unacknowledged` bytes came
    /// since the last acknowledgement; `has_room` when the window did not shrink with them.
    pub(super) fn decide(
        &mut self,
        now: Timestamp,
        unacknowledged: u32,
        has_room: bool,
        smoothed_us: Option<u32>,
        config: &Config,
    ) {
        if !self.is_owed || self.is_due {
            return;
        }
        if (unacknowledged > self.segment_bytes && has_room) || (self.quick > 0 && !self.is_dialogue) {
            self.is_due = true;
            return;
        }
        let floor = config.delayed_ack_min_ms * 1000;
        let ceiling = config.delayed_ack_max_ms * 1000;
        let mut patience = self.patience_us;
        if patience > floor {
            let mut limit = if self.is_dialogue || self.small_arrivals > 0 { ceiling } else { 500_000 };
            if let Some(smoothed) = smoothed_us {
                limit = limit.min(smoothed.max(floor));
            }
            patience = patience.min(limit);
        }
        let patience = u64::from(patience.min(ceiling));
        let deadline = later(now, patience);
        if self.deadline != Timestamp::NEVER && self.deadline <= later(now, patience / 4) {
            self.is_due = true;
        } else {
            self.deadline = self.deadline.min(deadline);
        }
    }

    /// The application has read; `is_drained` when nothing is left.
    pub(super) fn note_read(&mut self, unacknowledged: u32, is_drained: bool) {
        if !self.is_owed {
            return;
        }
        let is_small = self.small_arrivals > 1 || (self.small_arrivals == 1 && !self.is_dialogue);
        if unacknowledged > self.segment_bytes || (is_small && is_drained) {
            self.is_due = true;
        }
    }

    /// Data is about to leave. Soon after an arrival it counts as an answer.
    pub(super) fn note_answer(&mut self, now: Timestamp) {
        self.is_dialogue |= elapsed_us(now, self.last_arrival) < u64::from(self.patience_us);
    }

    /// A segment with an acknowledgement has left.
    pub(super) fn note_sent(&mut self, config: &Config) {
        if self.quick > 0 && self.is_owed {
            self.quick -= 1;
            if self.quick == 0 {
                self.patience_us = config.delayed_ack_min_ms * 1000;
            }
        }
        self.is_due = false;
        self.is_owed = false;
        self.small_arrivals = 0;
        self.deadline = Timestamp::NEVER;
    }

    /// The deadline has come.
    pub(super) fn on_deadline(&mut self, now: Timestamp, timeout_us: u64, config: &Config) {
        if now < self.deadline {
            return;
        }
        self.deadline = Timestamp::NEVER;
        if !self.is_owed {
            return;
        }
        if self.is_dialogue {
            self.is_dialogue = false;
            self.patience_us = config.delayed_ack_min_ms * 1000;
        } else {
            self.patience_us = u64::from(self.patience_us * 2).min(timeout_us) as u32;
        }
        self.is_due = true;
    }
}
