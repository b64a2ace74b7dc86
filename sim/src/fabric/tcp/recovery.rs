//! What is lost: RACK, the tail loss probe's account, and the evidence that a loss was none.
//!
//! RFC 8985 as Linux has it. A segment is lost when one sent later has arrived and a window for reordering has passed;
//! the window is zero until reordering was seen and three segments have arrived past the gap (so three duplicate
//! acknowledgements still do it). The connection asks, and acts.

use hailer::Timestamp;

use super::rtt::{RoundTrip, elapsed_us};
use super::segment::before;
use super::send::{SendBuffer, Sent};

/// Segments that must have arrived past a gap before it counts as a loss without waiting.
const DUPLICATE_THRESHOLD: u32 = 3;
/// For how many recoveries a wider reordering window is kept.
const WIDE_RECOVERIES: u8 = 16;

/// What the sender is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing unusual.
    Open,
    /// Something arrived out of order or was repeated; nothing is known to be lost.
    Disorder,
    /// Losses are being repaired after later segments arrived.
    Repair,
    /// Losses are being repaired after a time-out.
    Loss,
}

/// The tail loss probe that has not been accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailProbe {
    /// The next sequence number when it left.
    pub(super) next: u32,
    /// It repeated a segment; otherwise it was new data.
    pub(super) is_repetition: bool,
}

#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) phase: Phase,
    /// The phase ends when this is acknowledged.
    pub(super) high: u32,
    pub(super) tail_probe: Option<TailProbe>,
    /// Whether the time-out under way may have been too early (F-RTO, RFC 5682).
    pub(super) is_time_out_in_doubt: bool,
    /// New data goes before what is lost: the answer tells whether the time-out was too early.
    pub(super) tries_new: bool,
    /// When the first segment of this trouble was repeated.
    pub(super) since: Timestamp,
    /// The reduction may be taken back while this is set: the first number not acknowledged when it began.
    undo_from: Option<u32>,
    /// Repetitions not yet reported as needless; negative before the first.
    undo_balance: i32,
    /// The turn of the segment that was sent last of all that have arrived.
    latest_turn: u64,
    latest_round_trip_us: u32,
    has_news: bool,
    has_seen_reordering: bool,
    window_steps: u8,
    window_recoveries: u8,
    widened_at: u32,
}

impl Recovery {
    pub(super) fn new(next: u32) -> Self {
        Self {
            phase: Phase::Open,
            high: next,
            tail_probe: None,
            is_time_out_in_doubt: false,
            tries_new: false,
            since: Timestamp::NEVER,
            undo_from: None,
            undo_balance: 0,
            latest_turn: 0,
            latest_round_trip_us: 0,
            has_news: false,
            has_seen_reordering: false,
            window_steps: 1,
            window_recoveries: 0,
            widened_at: next,
        }
    }

    /// A segment has arrived.
    pub(super) fn note_delivered(&mut self, now: Timestamp, sent: &Sent, round_trip_min_us: u32) {
        let round_trip_us = elapsed_us(now, sent.at).min(u64::from(u32::MAX)) as u32;
        if sent.was_resent && round_trip_us < round_trip_min_us {
            // Too soon for the repetition: the original came.
            return;
        }
        self.has_news = true;
        self.latest_round_trip_us = round_trip_us;
        self.latest_turn = self.latest_turn.max(sent.turn);
    }

    /// A segment that was sent once arrived after one that was sent later.
    pub(super) fn note_reordering(&mut self) {
        self.has_seen_reordering = true;
    }

    /// The peer reports that `end` came twice.
    pub(super) fn note_duplicate(&mut self, end: u32, una: u32, next: u32) {
        // Wider, once a round trip.
        if !before(una, self.widened_at) {
            self.widened_at = next;
            self.window_steps = self.window_steps.saturating_add(1);
            self.window_recoveries = WIDE_RECOVERIES;
        }
        let is_ours = self.undo_from.is_some_and(|from| before(from, end) && !before(una, end));
        if is_ours && self.undo_balance > 0 {
            self.undo_balance -= 1;
        }
        if self.tail_probe == Some(TailProbe { next: end, is_repetition: true }) {
            self.tail_probe = None;
        }
    }

    /// Marks what is lost by now. Says how many were marked, and in how many microseconds more may be.
    pub(super) fn detect(
        &mut self,
        now: Timestamp,
        send: &mut SendBuffer,
        trip: &RoundTrip,
    ) -> (u32, Option<u64>) {
        if !std::mem::take(&mut self.has_news) {
            return (0, None);
        }
        self.detect_again(now, send, trip)
    }

    /// The same when nothing new has arrived, because time has passed.
    pub(super) fn detect_again(
        &mut self,
        now: Timestamp,
        send: &mut SendBuffer,
        trip: &RoundTrip,
    ) -> (u32, Option<u64>) {
        let window_us = self.reordering_window_us(send.sacked(), trip);
        let mut wait_us = None::<u64>;
        let marked = send.mark_lost(|_, sent| {
            if sent.turn >= self.latest_turn {
                return false;
            }
            let remaining_us = self.remaining_us(now, sent, window_us);
            if remaining_us > 0 {
                wait_us = wait_us.max(Some(remaining_us));
            }
            remaining_us == 0
        });
        (marked, wait_us)
    }

    /// Marks everything lost after a time-out, but for what was sent so lately that it can't have been answered.
    pub(super) fn mark_timed_out(&self, now: Timestamp, send: &mut SendBuffer, trip: &RoundTrip) {
        let window_us = self.reordering_window_us(send.sacked(), trip);
        send.mark_lost(|index, sent| index == 0 || self.remaining_us(now, sent, window_us) == 0);
    }

    fn remaining_us(&self, now: Timestamp, sent: &Sent, window_us: u32) -> u64 {
        let patience_us = u64::from(self.latest_round_trip_us) + u64::from(window_us);
        patience_us.saturating_sub(elapsed_us(now, sent.at))
    }

    fn reordering_window_us(&self, sacked: u32, trip: &RoundTrip) -> u32 {
        let is_repairing = matches!(self.phase, Phase::Repair | Phase::Loss);
        if !self.has_seen_reordering && (is_repairing || sacked >= DUPLICATE_THRESHOLD) {
            return 0;
        }
        let quarters = (trip.min_us() / 4).saturating_mul(u32::from(self.window_steps));
        quarters.min(trip.smoothed_us().unwrap_or(0))
    }

    /// A reduction begins: from here on evidence is gathered that it was needless.
    pub(super) fn begin_undo(&mut self, una: u32, resent: u32) {
        self.undo_from = Some(una);
        let probe = u32::from(self.tail_probe.is_some_and(|probe| probe.is_repetition));
        let balance = (resent + probe).min(i32::MAX as u32) as i32;
        // Not zero: that means that all were needless.
        self.undo_balance = if balance == 0 { -1 } else { balance };
        self.window_recoveries = self.window_recoveries.saturating_sub(1);
        if self.window_recoveries == 0 {
            self.window_steps = 1;
        }
    }

    /// A segment was repeated for good.
    pub(super) fn note_resent(&mut self, now: Timestamp) {
        self.since = self.since.min(now);
        self.undo_balance = self.undo_balance.max(0).saturating_add(1);
    }

    /// Whether the reduction under way was needless: every repetition came twice, or the peer answered (`echo_ms`, by
    /// our clock) to what was sent before the first.
    pub(super) fn is_needless(&self, echo_ms: Option<u32>) -> bool {
        self.undo_from.is_some() && (self.undo_balance == 0 || self.is_answer_to_original(echo_ms))
    }

    /// The second half of [`Recovery::is_needless`].
    pub(super) fn is_answer_to_original(&self, echo_ms: Option<u32>) -> bool {
        self.undo_from.is_some()
            && self.since != Timestamp::NEVER
            && echo_ms.is_some_and(|echo| before(echo, clock_ms(self.since)))
    }

    /// Whether [`Recovery::undo_balance`] alone says so.
    pub(super) fn is_all_duplicate(&self) -> bool {
        self.undo_from.is_some() && self.undo_balance == 0
    }

    /// Whether a reduction is under way that was not taken back.
    pub(super) fn can_undo(&self) -> bool {
        self.undo_from.is_some()
    }

    /// The reduction was taken back, or is over.
    pub(super) fn end_undo(&mut self) {
        self.undo_from = None;
        self.has_news = true;
    }
}

/// Our clock as the timestamps option shows it: milliseconds, never 0, which means none.
pub(super) fn clock_ms(now: Timestamp) -> u32 {
    (now.as_millis() as u32).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::fabric::tcp::Config;

    #[test]
    fn of_two_repeated_at_one_moment_the_first_to_leave_says_nothing_of_the_other() {
        let config = Config::default();
        let mut trip = RoundTrip::new(&config);
        trip.sample(&config, 100, 0, 0);
        let mut send = SendBuffer::new(0);
        send.queue(Bytes::from(vec![7; 300]));
        for _ in 0..3 {
            send.send_new(100, Timestamp::ZERO);
        }
        let mut recovery = Recovery::new(0);
        recovery.phase = Phase::Repair;
        send.mark_lost(|index, _| index != 1);
        let at = Timestamp::from_nanos(100_000);
        // Found out later than the loss of the third, that of the first is repeated behind it.
        send.resend(2, 100, at, false);
        send.resend(0, 100, at, false);
        let now = Timestamp::from_nanos(200_000);
        recovery.note_delivered(now, &send.flight()[2], trip.min_us());
        recovery.detect(now, &mut send, &trip);
        assert!(send.flight()[0].is_resent, "its answer is still under way");
    }
}
