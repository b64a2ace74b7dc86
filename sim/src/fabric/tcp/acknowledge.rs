//! What an acknowledgement does to an endpoint: the scoreboard, the round trip, losses, and the timer.
//!
//! The order is Linux's (`tcp_ack`), because the order decides which timer runs afterwards.

use hailer::Timestamp;

use super::connection::{Connection, Timer, TimerKind};
use super::input::sample_of_echo_us;
use super::recovery::{Phase, TailProbe};
use super::rtt::{elapsed_us, later};
use super::segment::{Segment, before};
use super::send::Acknowledged;

/// What is added to a timer that waits for reordering or a probe, for the peer's timers to round (Linux's two ticks).
pub(super) const TIMER_MIN_US: u64 = 2000;

/// What an acknowledgement has told.
#[derive(Clone, Copy, Debug)]
struct News {
    has_advanced: bool,
    is_duplicate: bool,
    has_sacked: bool,
    original_end: Option<u32>,
}

impl Connection {
    /// Says whether the rest of the segment may be looked at.
    pub(super) fn on_acknowledgement(&mut self, now: Timestamp, segment: &Segment, ack: u32) -> bool {
        if before(self.send.next, ack) {
            // It acknowledges what was never sent.
            if self.may_challenge(now) {
                self.acks.is_due = true;
            }
            return false;
        }
        let prior_una = self.send.una;
        let has_advanced = before(prior_una, ack);
        let mut is_duplicate = !has_advanced && segment.payload.is_empty() && !segment.fin;
        if !before(ack, prior_una) {
            self.probes = 0;
            let is_newer = has_advanced
                || before(self.window_seq, segment.seq)
                || (self.window_seq == segment.seq && (segment.window > self.window || segment.window == 0));
            if is_newer {
                is_duplicate &= self.window == segment.window;
                self.window_seq = segment.seq;
                self.window = segment.window;
                self.window_max = self.window_max.max(segment.window);
            }
        }
        if has_advanced {
            self.timeouts = 0;
        }
        if self.send.flight().is_empty() {
            self.account_for_tail_probe(ack, has_advanced, is_duplicate);
            self.on_window_news();
            return true;
        }

        let mut done = Acknowledged::default();
        let has_duplicate_report = self.take_sack(now, segment, ack, &mut done);
        let round_trip_min_us = self.trip.min_us();
        self.send.acknowledge(ack, &mut done, |sent| {
            self.recovery.note_delivered(now, sent, round_trip_min_us);
        });
        if done.is_reordered {
            self.recovery.note_reordering();
        }
        let sacked_sample_us = done.oldest_sacked.map(|at| elapsed_us(now, at));
        let sample_us = done
            .oldest
            .filter(|_| !done.has_resent)
            .map(|at| elapsed_us(now, at))
            .or(sacked_sample_us)
            .or_else(|| sample_of_echo_us(now, segment).filter(|_| done.segments > 0));
        if let Some(sample_us) = sample_us {
            self.trip.sample(&self.config, sample_us, self.send.una, self.send.next);
        }
        self.account_for_tail_probe(ack, has_advanced, is_duplicate && done.sacked == 0);

        let lost_before = self.send.lost();
        let mut is_reorder_timer_set = false;
        let is_dubious = is_duplicate || done.sacked > 0 || has_duplicate_report;
        if is_dubious || self.recovery.phase != Phase::Open {
            let echo = segment.timestamps.map(|stamps| stamps.echo).filter(|&echo| echo != 0);
            let news = News {
                has_advanced,
                is_duplicate,
                has_sacked: done.sacked > 0,
                original_end: done.original_end,
            };
            is_reorder_timer_set = self.on_alert(now, news, echo);
        }
        // A report restarts the time-out only when it answers to something sent after the oldest segment, or the
        // time-out would never come.
        let is_fresh_report = self.send.flight().front().is_some_and(|head| {
            sacked_sample_us.is_some_and(|sample_us| sample_us > elapsed_us(now, head.at))
        });
        if (done.segments > 0 || is_fresh_report) && !is_reorder_timer_set {
            self.set_timer(now, true);
        }
        let in_flight = self.send.in_flight();
        if self.recovery.phase == Phase::Repair {
            let newly_lost = self.send.lost() > lost_before;
            self.congestion.reduce(done.delivered, newly_lost, has_advanced, in_flight);
        } else if done.segments > 0 {
            self.congestion.grow(now, done.delivered, self.trip.smoothed_us().unwrap_or(0));
        }
        if self.recovery.phase == Phase::Open && !self.has_resent() {
            self.recovery.since = Timestamp::NEVER;
        }
        self.on_window_news();
        true
    }

    /// Marks what the peer reports; says whether it reports that something came twice.
    fn take_sack(&mut self, now: Timestamp, segment: &Segment, ack: u32, done: &mut Acknowledged) -> bool {
        let blocks = segment.sack.as_slice();
        let mut has_duplicate = false;
        let round_trip_min_us = self.trip.min_us();
        for (index, &(start, end)) in blocks.iter().enumerate() {
            if !before(start, end) {
                continue;
            }
            let is_within_next = blocks
                .get(1)
                .is_some_and(|&(next_start, next_end)| !before(start, next_start) && !before(next_end, end));
            if index == 0 && (before(start, ack) || is_within_next) {
                has_duplicate = true;
                self.recovery.note_duplicate(end, self.send.una, self.send.next);
            } else if before(self.send.una, start) && !before(self.send.next, end) {
                self.send.sack(start, end, done, |sent| {
                    self.recovery.note_delivered(now, sent, round_trip_min_us);
                });
            }
        }
        has_duplicate
    }

    /// RFC 8985, 7.4: a probe that repaired a loss unseen still costs a reduction.
    fn account_for_tail_probe(&mut self, ack: u32, has_advanced: bool, is_duplicate: bool) {
        let Some(probe) = self.recovery.tail_probe.filter(|probe| !before(ack, probe.next)) else { return };
        if !probe.is_repetition {
            self.recovery.tail_probe = None;
        } else if before(probe.next, ack) {
            self.recovery.tail_probe = None;
            self.congestion.begin_reduction();
            self.congestion.end_reduction();
            self.recovery.high = self.send.next;
            self.settle();
        } else if !has_advanced && is_duplicate {
            self.recovery.tail_probe = None;
        }
    }

    /// Looks for losses and moves between the phases. Says whether the timer now waits for reordering.
    fn on_alert(&mut self, now: Timestamp, news: News, echo_ms: Option<u32>) -> bool {
        let has_advanced = news.has_advanced;
        self.recovery.tries_new = false;
        let is_past_high = !before(self.send.una, self.recovery.high);
        if self.recovery.phase == Phase::Repair && is_past_high {
            self.finish_repair(echo_ms);
        }
        let resent_before;
        let is_timer_set;
        match self.recovery.phase {
            Phase::Repair => {
                if has_advanced && self.recovery.is_answer_to_original(echo_ms) {
                    if self.send.resent() > 0 {
                        return false;
                    }
                    self.undo(true);
                    self.settle();
                } else if self.recovery.is_all_duplicate() {
                    self.undo(false);
                    self.settle();
                }
                is_timer_set = self.look_for_losses(now);
                if self.recovery.phase == Phase::Repair {
                    return is_timer_set;
                }
            }
            Phase::Loss => {
                if has_advanced && self.recovery.is_needless(echo_ms) {
                    self.take_time_out_back();
                } else if self.recovery.is_time_out_in_doubt && self.resolve_time_out(news) {
                    // The time-out was too early, or new data will tell.
                } else if is_past_high {
                    self.finish_loss(echo_ms);
                }
                resent_before = self.send.resent();
                is_timer_set = self.look_for_losses(now);
                let has_lost_repetition = self.send.resent() < resent_before;
                if self.recovery.phase == Phase::Loss && !has_lost_repetition {
                    return is_timer_set;
                }
            }
            Phase::Open | Phase::Disorder => {
                if self.recovery.is_all_duplicate() {
                    self.undo(false);
                }
                is_timer_set = self.look_for_losses(now);
            }
        }
        if self.send.lost() > 0 {
            self.begin_repair();
        } else {
            self.settle();
        }
        is_timer_set
    }

    /// F-RTO (RFC 5682, with SACK): says whether there is nothing else to do about this acknowledgement.
    fn resolve_time_out(&mut self, news: News) -> bool {
        let high = self.recovery.high;
        // What was sent once and before the time-out has arrived: so not all was lost.
        if news.original_end.is_some_and(|end| !before(high, end)) {
            self.take_time_out_back();
            return true;
        }
        if before(high, self.send.next) {
            self.recovery.is_time_out_in_doubt &= !(news.has_sacked || news.is_duplicate);
        } else if news.has_advanced && before(self.send.una, high) {
            self.recovery.high = self.send.next;
            if self.send.has_unsent() && before(self.send.next, self.window_end()) {
                self.recovery.tries_new = true;
                return true;
            }
            self.recovery.is_time_out_in_doubt = false;
        }
        false
    }

    fn take_time_out_back(&mut self) {
        self.undo(true);
        self.timeouts = 0;
        self.recovery.phase = Phase::Open;
    }

    fn finish_repair(&mut self, echo_ms: Option<u32>) {
        self.recovery.phase = Phase::Open;
        if self.recovery.is_needless(echo_ms) {
            self.undo(false);
        }
        if self.recovery.can_undo() {
            self.congestion.end_reduction();
        }
    }

    fn finish_loss(&mut self, echo_ms: Option<u32>) {
        self.recovery.phase = Phase::Open;
        if self.recovery.is_needless(echo_ms) {
            self.undo(false);
        }
    }

    /// Nothing is known to be lost: open, unless something is out of order or was repeated.
    fn settle(&mut self) {
        let has_left_out = self.send.sacked() + self.send.lost() > 0;
        let phase = if has_left_out || self.has_resent() { Phase::Disorder } else { Phase::Open };
        if phase != self.recovery.phase {
            self.recovery.phase = phase;
            self.recovery.high = self.send.next;
        }
    }

    fn has_resent(&self) -> bool {
        self.send.resent() > 0 || self.send.flight().front().is_some_and(|sent| sent.was_resent)
    }

    pub(super) fn begin_repair(&mut self) {
        self.recovery.since = Timestamp::NEVER;
        self.recovery.begin_undo(self.send.una, self.send.resent());
        self.recovery.tail_probe = None;
        if self.recovery.phase != Phase::Repair {
            self.congestion.begin_reduction();
        }
        self.recovery.phase = Phase::Repair;
        self.recovery.high = self.send.next;
    }

    fn undo(&mut self, unmark: bool) {
        if unmark {
            self.send.unmark_lost();
        }
        self.congestion.undo();
        self.recovery.end_undo();
    }

    fn look_for_losses(&mut self, now: Timestamp) -> bool {
        let (_, wait_us) = self.recovery.detect(now, &mut self.send, &self.trip);
        let Some(wait_us) = wait_us else { return false };
        let wait_us = (wait_us + TIMER_MIN_US).min(self.trip.timeout_us(&self.config));
        self.timer = Some(Timer { kind: TimerKind::Reorder, at: later(now, wait_us) });
        true
    }

    /// The peer's window may have opened: what waits can leave, or the next question is due later.
    fn on_window_news(&mut self) {
        let is_asking = self.timer.is_some_and(|timer| timer.kind == TimerKind::WindowProbe);
        if is_asking && (!self.send.has_unsent() || self.is_next_in_window()) {
            self.timer = None;
            self.probe_backoff = 0;
        }
    }

    /// Sets the timer for what is in flight: a probe where that helps, else the time-out. `is_moving` when an
    /// acknowledgement has just restarted the time-out.
    pub(super) fn set_timer(&mut self, now: Timestamp, is_moving: bool) {
        if !self.schedule_tail_probe(now, is_moving) {
            self.restart_timeout(now);
        }
    }

    /// RFC 8985, 7.2, with Linux's allowance: two round trips, and the shortest time-out beside them when a single
    /// segment is in flight, for its acknowledgement may be delayed. Never later than the time-out.
    pub(super) fn schedule_tail_probe(&mut self, now: Timestamp, is_moving: bool) -> bool {
        let Some(head) = self.send.flight().front() else { return false };
        if self.recovery.phase != Phase::Open {
            return false;
        }
        let mut wait_us = match self.trip.smoothed_us() {
            None => u64::from(self.config.rto_initial_ms) * 1000,
            Some(smoothed_us) => {
                let is_single = self.send.flight().len() == 1;
                let allowance =
                    if is_single { u64::from(self.config.rto_min_ms) * 1000 } else { TIMER_MIN_US };
                2 * u64::from(smoothed_us) + allowance
            }
        };
        let timeout_us = self.trip.timeout_us(&self.config);
        let elapsed = if is_moving { 0 } else { elapsed_us(now, head.at) };
        if elapsed < timeout_us {
            wait_us = wait_us.min(timeout_us - elapsed);
        }
        self.timer = Some(Timer { kind: TimerKind::TailProbe, at: later(now, wait_us) });
        true
    }

    /// Starts the time-out from now, or, in place of a shorter timer, from when the oldest segment was sent.
    pub(super) fn restart_timeout(&mut self, now: Timestamp) {
        let Some(head) = self.send.flight().front() else {
            self.timer = None;
            return;
        };
        let timeout_us = self.trip.timeout_us(&self.config);
        let is_in_place =
            self.timer.is_some_and(|timer| matches!(timer.kind, TimerKind::Reorder | TimerKind::TailProbe));
        let elapsed = if is_in_place { elapsed_us(now, head.at) } else { 0 };
        let wait_us = timeout_us.saturating_sub(elapsed).max(1);
        self.timer = Some(Timer { kind: TimerKind::Retransmit, at: later(now, wait_us) });
    }

    /// Notes that a probe for the tail is on its way.
    pub(super) fn note_tail_probe(&mut self, is_repetition: bool) {
        self.recovery.tail_probe = Some(TailProbe { next: self.send.next, is_repetition });
    }
}
