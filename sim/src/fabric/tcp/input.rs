//! What a segment from the peer does to an endpoint: checks, handshake, data, FIN and RST.
//!
//! Acknowledgements have their own file. Whatever the peer sends, nothing here panics or grows without a limit.

use hailer::Timestamp;

use super::connection::{Connection, Reset, State, TcpError, Timer, TimerKind};
use super::receive::Arrival;
use super::recovery::clock_ms;
use super::rtt::{elapsed_us, later};
use super::segment::{PAYLOAD_BYTES_MAX, Segment, before};

/// Segments outside the window are answered this often at most, so that two ends that disagree don't answer each other
/// for ever (Linux's `tcp_invalid_ratelimit`).
const CHALLENGE_PAUSE_US: u64 = 500_000;
/// A SYN that met an old connection is repeated this soon, once that connection has been told to go.
const STALE_PEER_PAUSE_US: u64 = 2000;

impl Connection {
    /// Takes a segment of this connection.
    pub fn on_segment(&mut self, now: Timestamp, segment: Segment) {
        if segment.payload.len() > PAYLOAD_BYTES_MAX {
            return;
        }
        match self.state {
            State::Closed => {}
            State::SynSent => self.on_segment_in_syn_sent(now, &segment),
            State::SynReceived => self.on_segment_in_syn_received(now, segment),
            State::TimeWait => self.on_segment_in_time_wait(now, &segment),
            _ => self.on_segment_when_synchronised(now, segment),
        }
    }

    fn on_segment_in_syn_sent(&mut self, now: Timestamp, segment: &Segment) {
        if let Some(ack) = segment.ack.filter(|&ack| ack != self.send.next) {
            // The peer still has an earlier connection of ours: tell it to go.
            if !segment.rst {
                self.reset = Some(Reset { seq: ack, is_ours: false });
                if self.handshake_repeats == 0 {
                    self.timer =
                        Some(Timer { kind: TimerKind::Handshake, at: later(now, STALE_PEER_PAUSE_US) });
                }
            }
            return;
        }
        if segment.rst {
            if segment.ack.is_some() {
                self.fail(TcpError::Refused);
            }
            return;
        }
        if !segment.syn || segment.ack.is_none() {
            return;
        }
        self.take_syn(segment);
        self.sample_handshake(now, segment);
        self.establish();
        self.acks.is_due = true;
    }

    fn on_segment_in_syn_received(&mut self, now: Timestamp, segment: Segment) {
        let is_repeated_syn = segment.syn && segment.ack.is_none();
        if is_repeated_syn && segment.seq.wrapping_add(1) == self.receive.next {
            // Over an even path the SYN comes again at the very moment at which the SYN-ACK does. On Linux both happen.
            if self.timer.is_some_and(|timer| timer.at <= now) {
                self.on_handshake_timeout(now);
            }
            // Answered at once, and the timer starts anew.
            if !segment.rst && self.state == State::SynReceived && self.may_challenge(now) {
                self.handshake_due = self.handshake_due.saturating_add(1);
                self.handshake_repeats = self.handshake_repeats.saturating_add(1);
                self.arm_handshake(now);
            }
            return;
        }
        if !self.receive.is_acceptable(segment.seq, segment.end()) {
            if !segment.rst && self.may_challenge(now) {
                self.acks.is_due = true;
            }
            return;
        }
        if segment.rst {
            if segment.seq == self.receive.next {
                self.fail(TcpError::Reset);
            }
            return;
        }
        let Some(ack) = segment.ack.filter(|_| !segment.syn) else { return };
        if ack != self.send.next {
            self.reset = Some(Reset { seq: ack, is_ours: false });
            return;
        }
        self.sample_handshake(now, &segment);
        self.establish();
        self.window_seq = segment.seq;
        self.window = segment.window;
        self.window_max = segment.window;
        self.on_segment_when_synchronised(now, segment);
    }

    fn sample_handshake(&mut self, now: Timestamp, segment: &Segment) {
        let (una, next) = (self.send.una, self.send.next);
        let sample_us = if self.handshake_repeats == 0 {
            Some(elapsed_us(now, self.sent_at))
        } else {
            sample_of_echo_us(now, segment)
        };
        if let Some(sample_us) = sample_us {
            self.trip.sample(&self.config, sample_us, una, next);
        }
    }

    fn on_segment_when_synchronised(&mut self, now: Timestamp, segment: Segment) {
        let (seq, end) = (segment.seq, segment.end());
        if !self.receive.is_acceptable(seq, end) {
            if segment.rst {
                return;
            }
            if seq == end || segment.syn {
                if self.may_challenge(now) {
                    self.acks.is_due = true;
                }
            } else if self.receive.accept(seq, segment.payload, segment.fin) == Arrival::Useless {
                self.acks.note_trouble(self.receive.window(), &self.config);
            }
            return;
        }
        if segment.rst {
            let is_after_fin = self.receive.is_finished && seq.wrapping_add(1) == self.receive.next;
            if seq == self.receive.next || is_after_fin {
                self.fail(TcpError::Reset);
            } else if self.may_challenge(now) {
                self.acks.is_due = true;
            }
            return;
        }
        if segment.syn {
            if self.may_challenge(now) {
                self.acks.is_due = true;
            }
            return;
        }
        let Some(ack) = segment.ack else { return };
        if let Some(stamps) = segment.timestamps {
            // Only what moves the acknowledged stream on, so that the echo measures the whole way (RFC 7323, 4.3).
            if !before(self.receive.acknowledged, seq) && !before(stamps.value, self.peer_clock_ms) {
                self.peer_clock_ms = stamps.value;
            }
        }
        if !self.on_acknowledgement(now, &segment, ack) {
            return;
        }
        self.advance_after_fin_acknowledged(now);
        if self.state != State::Closed && (!segment.payload.is_empty() || segment.fin) {
            self.on_data(now, segment);
        }
    }

    fn advance_after_fin_acknowledged(&mut self, now: Timestamp) {
        if !self.send.is_finished() {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.is_orphan {
                    self.life_ends = later(now, u64::from(self.config.fin_timeout_ms) * 1000);
                }
            }
            State::Closing => self.wait(now),
            State::LastAck => self.end(),
            _ => {}
        }
    }

    fn on_data(&mut self, now: Timestamp, segment: Segment) {
        let has_new_bytes = before(self.receive.next, segment.seq.wrapping_add(segment.payload.len() as u32));
        if self.receive.is_finished && !before(segment.seq, self.receive.next) {
            return;
        }
        if self.is_orphan && has_new_bytes {
            // Nobody will read it, and the peer should know.
            self.abort(now);
            return;
        }
        let length = segment.payload.len() as u32;
        match self.receive.accept(segment.seq, segment.payload, segment.fin) {
            Arrival::Useless => self.acks.note_trouble(self.receive.window(), &self.config),
            Arrival::Early => self.acks.note_early(),
            Arrival::Next { closes_gap } => {
                if length > 0 {
                    let timeout_us = self.trip.timeout_us(&self.config);
                    self.acks.note_arrival(now, length, self.receive.window(), timeout_us, &self.config);
                }
                if closes_gap || self.receive.has_gap() {
                    self.acks.is_due = true;
                }
                if self.receive.is_finished {
                    self.on_fin(now);
                }
                let has_room = self.receive.has_room(self.acks.segment_bytes);
                let smoothed_us = self.trip.smoothed_us();
                self.acks.decide(now, self.unacknowledged(), has_room, smoothed_us, &self.config);
            }
        }
    }

    fn on_fin(&mut self, now: Timestamp) {
        match self.state {
            State::Established => {
                self.state = State::CloseWait;
                self.acks.note_fin();
            }
            State::FinWait1 => {
                self.state = State::Closing;
                self.acks.is_due = true;
            }
            State::FinWait2 => {
                self.acks.is_due = true;
                self.wait(now);
            }
            _ => {}
        }
    }

    fn wait(&mut self, now: Timestamp) {
        self.state = State::TimeWait;
        self.timer = None;
        self.acks.deadline = Timestamp::NEVER;
        self.send.clear();
        self.life_ends = later(now, u64::from(self.config.time_wait_ms) * 1000);
    }

    fn on_segment_in_time_wait(&mut self, now: Timestamp, segment: &Segment) {
        let is_acceptable = self.receive.is_acceptable(segment.seq, segment.end());
        if segment.rst {
            if is_acceptable {
                self.end();
            }
            return;
        }
        if segment.seq != segment.end() || !is_acceptable {
            self.acks.is_due |= segment.fin || self.may_challenge(now);
        }
        if segment.fin {
            self.life_ends = later(now, u64::from(self.config.time_wait_ms) * 1000);
        }
    }

    /// Whether a segment out of place may be answered now; if so, the pause begins.
    pub(super) fn may_challenge(&mut self, now: Timestamp) -> bool {
        let may = self.challenged_at == Timestamp::NEVER
            || elapsed_us(now, self.challenged_at) >= CHALLENGE_PAUSE_US;
        if may {
            self.challenged_at = now;
        }
        may
    }
}

/// The round trip that the echo in `segment` shows, in whole milliseconds and at least one; `None` without an echo and
/// for one that can't be ours.
pub(super) fn sample_of_echo_us(now: Timestamp, segment: &Segment) -> Option<u64> {
    let echo = segment.timestamps.map(|stamps| stamps.echo).filter(|&echo| echo != 0)?;
    let elapsed_ms = clock_ms(now).wrapping_sub(echo);
    (elapsed_ms < i32::MAX as u32 / 1000).then_some(u64::from(elapsed_ms.max(1)) * 1000)
}
