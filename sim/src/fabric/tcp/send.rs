//! What an endpoint has to send: bytes not sent yet, segments in flight, and the scoreboard of what became of them.
//!
//! It keeps account and decides nothing: what is lost, and when to send, is decided elsewhere. Segments in flight share
//! the bytes that were written; nothing is copied but small writes that travel together.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use hailer::Timestamp;

use super::segment::before;

/// A segment in flight.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) seq: u32,
    pub(super) fin: bool,
    /// The peer has it, out of order.
    pub(super) is_sacked: bool,
    /// It is taken for lost; with `is_resent` a repetition of it is on its way.
    pub(super) is_lost: bool,
    pub(super) is_resent: bool,
    /// It was repeated at least once, as a probe or for good.
    pub(super) was_resent: bool,
    /// When it was last sent.
    pub(super) at: Timestamp,
    /// Which one it was then of all segments sent, from 1: several leave at one moment, and not always in their order.
    pub(super) turn: u64,
    pub(super) payload: Bytes,
}

impl Sent {
    pub(super) fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len())
    }

    fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.fin)
    }
}

/// Gives back the memory of an empty queue that was long. A short one keeps it, so that a quiet dialogue allocates
/// nothing for its queues.
pub(super) fn release<T>(queue: &mut VecDeque<T>) {
    const KEPT: usize = 8;
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
}

/// What an acknowledgement did to the scoreboard.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// Segments that left the flight at its front.
    pub(super) segments: u32,
    /// Segments of which the peer told for the first time.
    pub(super) delivered: u32,
    /// Segments newly reported out of order.
    pub(super) sacked: u32,
    /// When the oldest of the segments at the front was sent that were sent once and not reported before.
    pub(super) oldest: Option<Timestamp>,
    /// One of the segments at the front was sent more than once.
    pub(super) has_resent: bool,
    /// The same as `oldest` for those newly reported out of order.
    pub(super) oldest_sacked: Option<Timestamp>,
    /// A segment sent once arrived after one that was sent later.
    pub(super) is_reordered: bool,
    /// The lowest end of the segments sent once of which the peer told for the first time.
    pub(super) original_end: Option<u32>,
}

impl Acknowledged {
    fn note_original(&mut self, end: u32) {
        if self.original_end.is_none_or(|known| before(end, known)) {
            self.original_end = Some(end);
        }
    }
}

/// Everything written and not acknowledged.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    /// The first sequence number not acknowledged.
    pub(super) una: u32,
    /// The next to be sent.
    pub(super) next: u32,
    unsent_bytes: u32,
    sacked: u32,
    lost: u32,
    resent: u32,
    /// Segments sent so far, repetitions included.
    turns: u64,
    highest_sacked: u32,
    /// The application has written its last byte.
    pub(super) is_finishing: bool,
    /// FIN has left.
    pub(super) has_sent_fin: bool,
    unsent: VecDeque<Bytes>,
    flight: VecDeque<Sent>,
}

impl SendBuffer {
    /// Starts at `next`, the sequence number after SYN.
    pub(super) fn new(next: u32) -> Self {
        Self { una: next, next, highest_sacked: next, ..Self::default() }
    }

    pub(super) fn queue(&mut self, bytes: Bytes) {
        self.unsent_bytes += bytes.len() as u32;
        self.unsent.push_back(bytes);
    }

    /// Bytes written and not acknowledged.
    pub(super) fn held_bytes(&self) -> u32 {
        self.unsent_bytes + self.next.wrapping_sub(self.una)
    }

    pub(super) fn unsent_bytes(&self) -> u32 {
        self.unsent_bytes
    }

    /// Whether bytes or a FIN wait to be sent for the first time.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent_bytes > 0 || (self.is_finishing && !self.has_sent_fin)
    }

    /// Whether everything, with its FIN, has reached the peer.
    pub(super) fn is_finished(&self) -> bool {
        self.has_sent_fin && self.una == self.next
    }

    pub(super) fn flight(&self) -> &VecDeque<Sent> {
        &self.flight
    }

    /// Segments that are on their way as far as one knows.
    pub(super) fn in_flight(&self) -> u32 {
        (self.flight.len() as u32 + self.resent).saturating_sub(self.sacked + self.lost)
    }

    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    pub(super) fn resent(&self) -> u32 {
        self.resent
    }

    /// Puts up to `limit` unsent bytes in flight, with the FIN when they are the last.
    pub(super) fn send_new(&mut self, limit: usize, now: Timestamp) -> &Sent {
        let payload = self.take_unsent(limit);
        let fin = self.is_finishing && self.unsent_bytes == 0;
        self.has_sent_fin |= fin;
        self.turns += 1;
        let sent = Sent {
            seq: self.next,
            fin,
            is_sacked: false,
            is_lost: false,
            is_resent: false,
            was_resent: false,
            at: now,
            turn: self.turns,
            payload,
        };
        self.next = sent.end();
        self.flight.push_back(sent);
        self.flight.back().expect("it was just pushed")
    }

    fn take_unsent(&mut self, limit: usize) -> Bytes {
        let Some(front) = self.unsent.front_mut() else { return Bytes::new() };
        let taken = if front.len() > limit {
            front.split_to(limit)
        } else if front.len() == limit || self.unsent.len() == 1 {
            self.unsent.pop_front().expect("there is a front")
        } else {
            let mut joined = BytesMut::with_capacity(limit.min(self.unsent_bytes as usize));
            while let Some(front) = self.unsent.front_mut() {
                let room = (limit - joined.len()).min(front.len());
                joined.extend_from_slice(&front[..room]);
                front.advance(room);
                if !front.is_empty() {
                    break;
                }
                self.unsent.pop_front();
            }
            joined.freeze()
        };
        release(&mut self.unsent);
        self.unsent_bytes -= taken.len() as u32;
        taken
    }

    /// Takes everything before `ack` out of the flight; `delivered` sees each segment that is news.
    pub(super) fn acknowledge(
        &mut self,
        ack: u32,
        done: &mut Acknowledged,
        mut delivered: impl FnMut(&Sent),
    ) {
        while let Some(front) = self.flight.front_mut() {
            if !before(front.seq, ack) {
                break;
            }
            if before(ack, front.end()) {
                // Only a part of it: what remains is a shorter segment. FIN is the last number, so it remains.
                let cut = ack.wrapping_sub(front.seq) as usize;
                front.payload.advance(cut.min(front.payload.len()));
                front.seq = ack;
                break;
            }
            let sent = self.flight.pop_front().expect("there is a front");
            self.lost -= u32::from(sent.is_lost);
            self.resent -= u32::from(sent.is_resent);
            self.sacked -= u32::from(sent.is_sacked);
            done.segments += 1;
            if !sent.is_sacked {
                done.delivered += 1;
                delivered(&sent);
            }
            if sent.was_resent {
                done.has_resent = true;
            } else if !sent.is_sacked {
                done.oldest = done.oldest.or(Some(sent.at));
                done.is_reordered |= before(sent.seq, self.highest_sacked);
                done.note_original(sent.end());
            }
        }
        release(&mut self.flight);
        if before(self.una, ack) {
            self.una = ack;
        }
        if before(self.highest_sacked, self.una) {
            self.highest_sacked = self.una;
        }
    }

    /// Marks the segments that lie wholly within `start..end` as arrived.
    pub(super) fn sack(
        &mut self,
        start: u32,
        end: u32,
        done: &mut Acknowledged,
        mut delivered: impl FnMut(&Sent),
    ) {
        let first = self.flight.partition_point(|sent| before(sent.seq, start));
        let mut last = None;
        for sent in self.flight.range_mut(first..) {
            if before(end, sent.end()) {
                break;
            }
            if !sent.is_sacked {
                self.lost -= u32::from(sent.is_lost);
                self.resent -= u32::from(sent.is_resent);
                sent.is_lost = false;
                sent.is_resent = false;
                sent.is_sacked = true;
                self.sacked += 1;
                done.sacked += 1;
                done.delivered += 1;
                delivered(sent);
                if !sent.was_resent {
                    done.oldest_sacked = done.oldest_sacked.or(Some(sent.at));
                    done.is_reordered |= before(sent.seq, self.highest_sacked);
                    done.note_original(sent.end());
                }
            }
            last = Some(sent.end());
        }
        if let Some(last) = last.filter(|&last| before(self.highest_sacked, last)) {
            self.highest_sacked = last;
        }
    }

    /// Marks as lost every segment in flight of which `is_lost` says so; a repetition that was under way is lost too.
    /// Says how many became so.
    pub(super) fn mark_lost(&mut self, mut is_lost: impl FnMut(usize, &Sent) -> bool) -> u32 {
        let mut marked = 0;
        for (index, sent) in self.flight.iter_mut().enumerate() {
            if sent.is_sacked || (sent.is_lost && !sent.is_resent) || !is_lost(index, sent) {
                continue;
            }
            self.lost += u32::from(!sent.is_lost);
            self.resent -= u32::from(sent.is_resent);
            sent.is_lost = true;
            sent.is_resent = false;
            marked += 1;
        }
        marked
    }

    /// Cuts what is in flight and longer than `limit` bytes into pieces, which count as lost. Says how many there are.
    pub(super) fn split_longer(&mut self, limit: usize) -> usize {
        let is_long = |sent: &Sent| !sent.is_sacked && sent.payload.len() > limit;
        let mut cut = 0;
        let flight = std::mem::take(&mut self.flight);
        for mut sent in flight {
            if !is_long(&sent) {
                self.flight.push_back(sent);
                continue;
            }
            self.lost -= u32::from(sent.is_lost);
            self.resent -= u32::from(sent.is_resent);
            while !sent.payload.is_empty() {
                let payload = sent.payload.split_to(sent.payload.len().min(limit));
                let is_last = sent.payload.is_empty();
                let piece = Sent {
                    fin: sent.fin && is_last,
                    is_lost: true,
                    is_resent: false,
                    was_resent: true,
                    payload,
                    ..sent
                };
                sent.seq = piece.end();
                self.flight.push_back(piece);
                self.lost += 1;
                cut += 1;
            }
        }
        cut
    }

    /// Takes every mark of loss back.
    pub(super) fn unmark_lost(&mut self) {
        for sent in &mut self.flight {
            sent.is_lost = false;
        }
        self.lost = 0;
    }

    /// The peer has dropped what it had reported: forgets the reports.
    pub(super) fn forget_sacked(&mut self) {
        for sent in &mut self.flight {
            sent.is_sacked = false;
        }
        self.sacked = 0;
        self.highest_sacked = self.una;
    }

    /// The first segment that is lost and of which no repetition is under way.
    pub(super) fn first_lost(&self) -> Option<usize> {
        if self.lost == 0 {
            return None;
        }
        self.flight.iter().position(|sent| sent.is_lost && !sent.is_resent)
    }

    /// Notes that segment `index` is sent again, joined with those behind it as far as `limit` bytes reach (Linux does
    /// so: several small segments lost together cost one repetition). A probe changes nothing on the scoreboard.
    pub(super) fn resend(&mut self, index: usize, limit: usize, now: Timestamp, is_probe: bool) -> &Sent {
        self.join(index, limit);
        self.turns += 1;
        let sent = &mut self.flight[index];
        sent.at = now;
        sent.turn = self.turns;
        sent.was_resent = true;
        if !is_probe && !sent.is_resent {
            sent.is_resent = true;
            self.resent += 1;
        }
        sent
    }

    fn join(&mut self, index: usize, limit: usize) {
        let mut len = self.flight[index].payload.len();
        let mut behind = index + 1;
        while let Some(next) = self.flight.get(behind) {
            len += next.payload.len();
            if next.is_sacked || len > limit {
                break;
            }
            behind += 1;
        }
        if behind == index + 1 || self.flight[index].is_sacked {
            return;
        }
        let mut joined = BytesMut::with_capacity(limit);
        joined.extend_from_slice(&self.flight[index].payload);
        for next in self.flight.drain(index + 1..behind).collect::<Vec<_>>() {
            joined.extend_from_slice(&next.payload);
            self.lost -= u32::from(next.is_lost);
            self.resent -= u32::from(next.is_resent);
            self.flight[index].fin |= next.fin;
        }
        self.flight[index].payload = joined.freeze();
    }

    /// Gives everything up.
    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, una: self.next, turns: self.turns, ..Self::default() };
    }

    /// Recounts the scoreboard: for tests.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let count = |which: fn(&Sent) -> bool| self.flight.iter().filter(|sent| which(sent)).count() as u32;
        let mut seq = self.una;
        self.flight.iter().all(|sent| sent.seq == std::mem::replace(&mut seq, sent.end()))
            && (self.flight.is_empty() || seq == self.next)
            && self.sacked == count(|sent| sent.is_sacked)
            && self.lost == count(|sent| sent.is_lost)
            && self.resent == count(|sent| sent.is_resent)
            && self.unsent_bytes as usize == self.unsent.iter().map(Bytes::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_a_path_is_cut_and_lost_and_the_rest_stays() {
        let mut buffer = SendBuffer::new(100);
        buffer.queue(Bytes::from(vec![7; 3500]));
        buffer.is_finishing = true;
        for _ in 0..4 {
            buffer.send_new(1000, Timestamp::ZERO);
        }
        // The second has arrived, the third was repeated.
        buffer.sack(1100, 2100, &mut Acknowledged::default(), |_| {});
        buffer.mark_lost(|index, _| index == 2);
        buffer.resend(2, 1000, Timestamp::ZERO, false);
        assert_eq!(buffer.split_longer(400), 3 + 3 + 2);
        assert!(buffer.is_consistent());
        let pieces: Vec<_> =
            buffer.flight().iter().map(|sent| (sent.seq, sent.payload.len(), sent.fin)).collect();
        let cut = |seq: u32, lens: [usize; 3]| {
            [(seq, lens[0], false), (seq + 400, lens[1], false), (seq + 800, lens[2], false)]
        };
        let expected = [&cut(100, [400, 400, 200])[..], &[(1100, 1000, false)], &cut(2100, [400, 400, 200])];
        assert_eq!(pieces[..7], expected.concat());
        assert_eq!(pieces[7..], [(3100, 400, false), (3500, 100, true)]);
        assert_eq!((buffer.lost(), buffer.resent(), buffer.sacked()), (8, 0, 1));
        assert_eq!(buffer.split_longer(400), 0);
    }
}
