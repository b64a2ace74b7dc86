//! What an endpoint does when nothing came: handshake again, time-out, probes, delayed acknowledgements, the end.

use hailer::Timestamp;

use super::config::Config;
use super::connection::{Connection, Probe, State, TcpError, Timer, TimerKind};
use super::recovery::Phase;
use super::rtt::{elapsed_us, later};
use super::segment::before;

/// How many time-outs of a thin stream are not doubled (`TCP_THIN_LINEAR_RETRIES`).
const THIN_LINEAR_RETRIES: u8 = 6;
/// A stream with fewer segments that are not acknowledged is thin (`tcp_stream_is_thin`), be they lost or not.
const THIN_SEGMENTS: usize = 4;

impl Connection {
    /// Does what is due by `now`; nothing when it is early.
    pub fn on_timer(&mut self, now: Timestamp) {
        if self.life_ends <= now {
            self.end();
            return;
        }
        self.acks.on_deadline(now, self.trip.timeout_us(&self.config), &self.config);
        match self.timer.filter(|timer| timer.at <= now).map(|timer| timer.kind) {
            None => {}
            Some(TimerKind::Handshake) => self.on_handshake_timeout(now),
            Some(TimerKind::Retransmit) => self.on_timeout(now),
            Some(TimerKind::TailProbe) => self.on_tail_probe(now),
            Some(TimerKind::Reorder) => self.on_reorder_timeout(now),
            Some(TimerKind::WindowProbe) => self.on_window_probe(now),
        }
    }

    pub(super) fn on_handshake_timeout(&mut self, now: Timestamp) {
        let retries = if self.state == State::SynSent {
            self.config.syn_retries.saturating_add(self.config.syn_linear_timeouts)
        } else {
            self.config.synack_retries
        };
        if self.handshake_timeouts >= retries {
            self.fail(TcpError::TimedOut);
            return;
        }
        self.handshake_timeouts += 1;
        self.handshake_repeats = self.handshake_repeats.saturating_add(1);
        self.handshake_due = self.handshake_due.saturating_add(1);
        self.arm_handshake(now);
    }

    /// Sets the timer of the handshake by how often it has run out.
    pub(super) fn arm_handshake(&mut self, now: Timestamp) {
        let linear = if self.state == State::SynSent { self.config.syn_linear_timeouts } else { 0 };
        let doublings = self.handshake_timeouts.saturating_sub(linear).min(20);
        let wait_ms =
            (u64::from(self.config.rto_initial_ms) << doublings).min(u64::from(self.config.rto_max_ms));
        self.timer = Some(Timer { kind: TimerKind::Handshake, at: later(now, wait_ms * 1000) });
    }

    fn retries(&self) -> u8 {
        if self.is_orphan { self.config.orphan_retries } else { self.config.retries2 }
    }

    fn on_timeout(&mut self, now: Timestamp) {
        let Some(head) = self.send.flight().front() else {
            self.timer = None;
            return;
        };
        let is_reneged = head.is_sacked;
        let patience_us = self.config.give_up_after_us(self.retries());
        if self.timeouts > 0 && elapsed_us(now, self.recovery.since) >= patience_us {
            self.fail(TcpError::TimedOut);
            return;
        }
        self.recovery.tail_probe = None;
        let is_new = matches!(self.recovery.phase, Phase::Open | Phase::Disorder)
            || !before(self.send.una, self.recovery.high)
            || (self.recovery.phase == Phase::Loss && self.timeouts == 0);
        // As Linux has it; a further time-out in a row is in doubt again.
        self.recovery.is_time_out_in_doubt =
            matches!(self.recovery.phase, Phase::Open | Phase::Disorder) || self.timeouts > 0;
        self.recovery.tries_new = false;
        if is_reneged {
            self.send.forget_sacked();
        }
        self.recovery.mark_timed_out(now, &mut self.send, &self.trip);
        if is_new {
            self.recovery.begin_undo(self.send.una, self.send.resent());
        }
        self.congestion.collapse(is_new, self.send.in_flight());
        self.recovery.phase = Phase::Loss;
        self.recovery.high = self.send.next;
        self.timeouts = self.timeouts.saturating_add(1);
        if self.is_thin() && self.timeouts <= THIN_LINEAR_RETRIES {
            self.trip.hold_back_off();
        } else {
            self.trip.back_off();
        }
        self.arm(now, TimerKind::Retransmit, self.trip.timeout_us(&self.config));
    }

    /// Too few segments are out for other means than the time-out, and it is not for want of a start.
    fn is_thin(&self) -> bool {
        self.config.thin_linear_timeouts
            && self.state == State::Established
            && self.send.flight().len() < THIN_SEGMENTS
            && !self.congestion.is_in_initial_slow_start()
    }

    fn on_tail_probe(&mut self, now: Timestamp) {
        // One at a time: after a probe without an answer the time-out is the next.
        if self.recovery.tail_probe.is_some() || self.send.flight().is_empty() {
            self.restart_timeout(now);
            return;
        }
        self.probe = Probe::Tail;
        self.arm(now, TimerKind::Retransmit, self.trip.timeout_us(&self.config));
    }

    fn on_reorder_timeout(&mut self, now: Timestamp) {
        self.recovery.tries_new = false;
        let (marked, wait_us) = self.recovery.detect_again(now, &mut self.send, &self.trip);
        if marked > 0 && self.recovery.phase != Phase::Repair {
            self.begin_repair();
            self.congestion.reduce(1, true, false, self.send.in_flight());
        }
        match wait_us {
            Some(wait_us) => {
                let wait_us = wait_us + super::acknowledge::TIMER_MIN_US;
                self.arm(now, TimerKind::Reorder, wait_us.min(self.trip.timeout_us(&self.config)));
            }
            None => self.restart_timeout(now),
        }
    }

    fn on_window_probe(&mut self, now: Timestamp) {
        if !self.send.flight().is_empty() || !self.send.has_unsent() {
            self.timer = None;
            return;
        }
        // A peer that answers may keep its window closed for as long as it likes, but not for an application that has
        // gone.
        let is_too_long =
            self.is_orphan && self.window_probe_pause_us() >= u64::from(self.config.rto_max_ms) * 1000;
        if self.probes >= self.retries() || is_too_long {
            self.fail(TcpError::TimedOut);
            return;
        }
        self.probe = Probe::Window;
        self.probes += 1;
        self.probe_backoff = self.probe_backoff.saturating_add(1);
        self.arm_window_probe(now);
    }

    /// Sets the timer of the next question whether the peer's window is still closed.
    pub(super) fn arm_window_probe(&mut self, now: Timestamp) {
        self.arm(now, TimerKind::WindowProbe, self.window_probe_pause_us());
    }

    fn window_probe_pause_us(&self) -> u64 {
        let base_us = self.trip.timeout_us(&self.config).max(u64::from(Config::SHORTEST_MS) * 1000);
        (base_us << self.probe_backoff.min(20)).min(u64::from(self.config.rto_max_ms) * 1000)
    }

    fn arm(&mut self, now: Timestamp, kind: TimerKind, wait_us: u64) {
        self.timer = Some(Timer { kind, at: later(now, wait_us) });
    }
}
