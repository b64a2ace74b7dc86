//! What an endpoint sends, and in which order: resets, handshake, probes, repetitions, new data, acknowledgements.

use bytes::Bytes;
use hailer::Timestamp;

use super::connection::{Connection, Probe, State, TimerKind};
use super::recovery::{Phase, clock_ms};
use super::rtt::elapsed_us;
use super::segment::{SackBlocks, Segment, Timestamps, before};

/// Beside the timestamps the options have room for three blocks.
const SACK_BLOCKS: usize = 3;
/// No segment is larger than half of the largest window the peer has offered, above this.
const SMALL_WINDOW_BYTES: u32 = 536;
/// What a segment may carry even into a tiny window.
const SEGMENT_BYTES_MIN: u32 = 36;

impl Connection {
    /// The next segment to send, `None` when there is nothing more to send for now.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<Segment> {
        if let Some(reset) = self.reset.take() {
            let timestamps = reset.is_ours.then(|| self.timestamps(now));
            let ack = reset.is_ours.then_some(self.receive.next);
            return Some(Segment { seq: reset.seq, ack, rst: true, timestamps, ..Segment::default() });
        }
        match self.state {
            State::Closed => None,
            State::SynSent | State::SynReceived => self.send_handshake(now),
            State::TimeWait => self.send_acknowledgement(now),
            _ => self
                .send_probe(now)
                .or_else(|| self.try_new(now))
                .or_else(|| self.send_lost(now))
                .or_else(|| self.send_new(now))
                .or_else(|| self.send_acknowledgement(now)),
        }
    }

    fn send_handshake(&mut self, now: Timestamp) -> Option<Segment> {
        let is_answer = self.state == State::SynReceived;
        if self.handshake_due == 0 {
            return if is_answer { self.send_acknowledgement(now) } else { None };
        }
        self.handshake_due -= 1;
        let window = self.config.receive_buffer_bytes.min(u32::from(u16::MAX));
        if is_answer {
            self.receive.advertise(self.acks.segment_bytes, window);
            self.acks.note_sent(&self.config);
        }
        Some(Segment {
            seq: self.initial_seq,
            ack: is_answer.then_some(self.receive.next),
            syn: true,
            window,
            mss: Some(self.config.mss),
            timestamps: Some(self.timestamps(now)),
            is_retransmission: self.handshake_repeats > 0,
            ..Segment::default()
        })
    }

    fn send_probe(&mut self, now: Timestamp) -> Option<Segment> {
        match std::mem::replace(&mut self.probe, Probe::None) {
            Probe::None => None,
            Probe::Tail if self.send.flight().is_empty() => None,
            Probe::Tail if self.send.has_unsent() && self.is_next_in_window() => {
                let segment = self.put_in_flight(now, self.next_len());
                self.note_tail_probe(false);
                Some(segment)
            }
            Probe::Tail => {
                let last = self.send.flight().len() - 1;
                self.note_tail_probe(true);
                Some(self.repeat(now, last, true))
            }
            Probe::Window => {
                let room = self.window_end().wrapping_sub(self.send.next);
                if !self.send.has_unsent() || !self.send.flight().is_empty() {
                    None
                } else if before(self.send.next, self.window_end()) {
                    let segment = self.put_in_flight(now, self.next_len().min(room as usize));
                    self.set_timer(now, true);
                    Some(segment)
                } else {
                    // Out of its window on purpose: the peer has to answer with its window.
                    let seq = self.send.una.wrapping_sub(1);
                    Some(self.segment(now, seq, Bytes::new()))
                }
            }
        }
    }

    /// After a time-out that is in doubt, new data leaves before what is lost, which waits for the answer.
    fn try_new(&mut self, now: Timestamp) -> Option<Segment> {
        let segment = if self.recovery.tries_new { self.send_new(now) } else { None };
        if self.recovery.tries_new && self.send.next == self.recovery.high {
            self.recovery.tries_new = false;
            self.recovery.is_time_out_in_doubt = false;
        }
        segment
    }

    fn send_lost(&mut self, now: Timestamp) -> Option<Segment> {
        if self.recovery.tries_new || self.send.lost() == 0 || self.send.in_flight() >= self.congestion.window
        {
            return None;
        }
        let index = self.send.first_lost()?;
        if index > 0 && before(self.window_end(), self.send.flight()[index].end()) {
            return None;
        }
        let segment = self.repeat(now, index, false);
        self.recovery.note_resent(now);
        if self.recovery.phase == Phase::Repair {
            self.congestion.note_sent();
        }
        let is_waiting_for_reordering = self.timer.is_some_and(|timer| timer.kind == TimerKind::Reorder);
        if index == 0 && !is_waiting_for_reordering {
            self.timer = None;
            self.restart_timeout(now);
        }
        Some(segment)
    }

    fn repeat(&mut self, now: Timestamp, index: usize, is_probe: bool) -> Segment {
        let room = self.window_end().wrapping_sub(self.send.flight()[index].seq) as i32;
        let limit = (room.max(0) as usize).min(usize::from(self.send_mss));
        let sent = self.send.resend(index, limit, now, is_probe);
        let (seq, payload, fin) = (sent.seq, sent.payload.clone(), sent.fin);
        Segment { fin, psh: !payload.is_empty(), is_retransmission: true, ..self.segment(now, seq, payload) }
    }

    fn send_new(&mut self, now: Timestamp) -> Option<Segment> {
        if !self.send.has_unsent() {
            return None;
        }
        let is_idle = self.send.flight().is_empty();
        if !self.is_next_in_window() {
            if is_idle && self.timer.is_none() {
                self.arm_window_probe(now);
            }
            return None;
        }
        let timeout_us = self.trip.timeout_us(&self.config);
        let idle_us = elapsed_us(now, self.sent_at);
        if is_idle && idle_us > timeout_us {
            self.congestion.restart_after_idle(idle_us, timeout_us, u32::from(self.config.initial_cwnd));
        }
        let is_lone_fin = self.send.unsent_bytes() == 0;
        if self.send.in_flight() >= self.congestion.window && !is_lone_fin {
            self.note_usage(true);
            return None;
        }
        let segment = self.put_in_flight(now, self.next_len());
        if is_idle || self.timer.is_some_and(|timer| timer.kind == TimerKind::TailProbe) {
            self.restart_timeout(now);
        }
        self.schedule_tail_probe(now, false);
        self.note_usage(self.send.in_flight() >= self.congestion.window);
        Some(segment)
    }

    fn note_usage(&mut self, is_limited: bool) {
        let flight = self.send.flight().len() as u32;
        self.congestion.note_usage(flight, is_limited, self.send.una, self.send.next);
    }

    fn put_in_flight(&mut self, now: Timestamp, limit: usize) -> Segment {
        let sent = self.send.send_new(limit, now);
        let (seq, payload, fin) = (sent.seq, sent.payload.clone(), sent.fin);
        if self.recovery.phase == Phase::Repair {
            self.congestion.note_sent();
        }
        self.sent_at = now;
        if !payload.is_empty() {
            self.acks.note_answer(now);
        }
        let psh = !payload.is_empty() && self.send.unsent_bytes() == 0;
        Segment { fin, psh, ..self.segment(now, seq, payload) }
    }

    fn send_acknowledgement(&mut self, now: Timestamp) -> Option<Segment> {
        self.acks.is_due.then(|| self.segment(now, self.send.next, Bytes::new()))
    }

    /// The first number that the peer does not want yet.
    pub(super) fn window_end(&self) -> u32 {
        self.send.una.wrapping_add(self.window)
    }

    /// Bytes in the next new segment.
    fn next_len(&self) -> usize {
        let mss = u32::from(self.send_mss);
        let bound = match self.window_max {
            0 => mss,
            small if small <= SMALL_WINDOW_BYTES => small.max(SEGMENT_BYTES_MIN),
            large => large / 2,
        };
        let blocks = self.receive.sack_len().min(SACK_BLOCKS);
        let options = if blocks == 0 { 0 } else { 4 + 8 * blocks };
        let limit = (mss as usize - options).min(bound as usize);
        (self.send.unsent_bytes() as usize).min(limit)
    }

    /// Whether the peer's window has room for the next new segment, whole.
    pub(super) fn is_next_in_window(&self) -> bool {
        let length = (self.next_len() as u32).max(1);
        !before(self.window_end(), self.send.next.wrapping_add(length))
    }

    fn timestamps(&self, now: Timestamp) -> Timestamps {
        Timestamps { value: clock_ms(now), echo: self.peer_clock_ms }
    }

    /// A segment with everything that an open connection puts in each, and the acknowledgements settled by it.
    fn segment(&mut self, now: Timestamp, seq: u32, payload: Bytes) -> Segment {
        let mut sack = self.receive.sack(SACK_BLOCKS);
        if !sack.is_empty() {
            let room = usize::from(self.send_mss).saturating_sub(payload.len());
            sack.truncate(room.saturating_sub(4) / 8);
            if sack != SackBlocks::default() {
                self.receive.note_reported();
            }
        }
        let window = self.receive.advertise(self.acks.segment_bytes, u32::MAX);
        self.acks.note_sent(&self.config);
        Segment {
            seq,
            ack: Some(self.receive.next),
            window,
            sack,
            timestamps: Some(self.timestamps(now)),
            payload,
            ..Segment::default()
        }
    }
}
