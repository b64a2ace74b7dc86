//! What an endpoint has received: bytes in order that wait for the application, pieces out of order, and the window.
//!
//! The bytes held lie between what the application has read and the advertised edge, so they never exceed the buffer.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::segment::{SackBlocks, before};
use super::send::release;

/// Pieces out of order that one endpoint keeps. Each costs some 40 bytes beside its content, so a peer that sends every
/// second byte could make a buffer cost many times its size. A full window of whole segments is 180 pieces; a piece
/// that finds no room is as if it were lost.
pub const PIECES_MAX: usize = 1024;

/// Chunks in order that are kept as they came, for the same reason; more are copied into one.
const CHUNKS_MAX: usize = 1024;

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was the next; it moved the stream on, and the last gap is closed when `closes_gap`.
    Next { closes_gap: bool },
    /// It is kept for later.
    Early,
    /// It brought nothing: known, or beyond the window.
    Useless,
}

#[derive(Debug)]
struct Piece {
    seq: u32,
    payload: Bytes,
}

impl Piece {
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.payload.len() as u32)
    }
}

/// What only an endpoint with a gap needs.
#[derive(Debug, Default)]
struct Early {
    /// Sorted, without overlaps.
    pieces: Vec<Piece>,
    /// The latest blocks, latest first.
    blocks: SackBlocks,
    /// The sequence number of a FIN behind a gap.
    fin: Option<u32>,
}

/// The receiving half of an endpoint.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    /// The next sequence number expected.
    pub(super) next: u32,
    /// What the last segment we sent acknowledged.
    pub(super) acknowledged: u32,
    /// The first sequence number that the peer may not send; it never moves back.
    edge: u32,
    capacity: u32,
    unread_bytes: u32,
    /// The peer's FIN has come, in order.
    pub(super) is_finished: bool,
    duplicate: Option<(u32, u32)>,
    unread: VecDeque<Bytes>,
    early: Option<Box<Early>>,
}

impl ReceiveBuffer {
    /// Starts at `next`, the sequence number after the peer's SYN.
    pub(super) fn new(next: u32, capacity: u32) -> Self {
        Self {
            next,
            acknowledged: next,
            edge: next,
            capacity,
            unread_bytes: 0,
            is_finished: false,
            duplicate: None,
            unread: VecDeque::new(),
            early: None,
        }
    }

    pub(super) fn unread_bytes(&self) -> u32 {
        self.unread_bytes
    }

    /// Bytes held out of order.
    #[cfg(test)]
    pub(super) fn early_bytes(&self) -> usize {
        self.early.as_ref().map_or(0, |early| early.pieces.iter().map(|piece| piece.payload.len()).sum())
    }

    pub(super) fn has_gap(&self) -> bool {
        self.early.is_some()
    }

    /// Blocks that the next segment has to report.
    pub(super) fn sack_len(&self) -> usize {
        usize::from(self.duplicate.is_some()) + self.early.as_ref().map_or(0, |early| early.blocks.len())
    }

    /// What the peer may still send.
    pub(super) fn window(&self) -> u32 {
        self.edge.wrapping_sub(self.next)
    }

    /// Whether the window that could be offered is no smaller than the one offered last: the application keeps up.
    pub(super) fn has_room(&self, sliver: u32) -> bool {
        self.window_to_offer(sliver) >= self.edge.wrapping_sub(self.acknowledged)
    }

    /// Whether a segment of `seq..end` may be looked at (RFC 9293, 3.10.7.4, with Linux's left edge).
    pub(super) fn is_acceptable(&self, seq: u32, end: u32) -> bool {
        !before(end, self.acknowledged) && !before(self.edge, seq)
    }

    /// The window that the next segment should advertise: never less than promised, and no sliver (Linux's
    /// `__tcp_select_window`). `sliver` is the size of segments the peer sends.
    pub(super) fn window_to_offer(&self, sliver: u32) -> u32 {
        let free = self.capacity - self.unread_bytes.min(self.capacity);
        let is_sliver =
            free < self.capacity / 2 && (free < self.capacity / 16 || free < sliver.min(self.capacity));
        if is_sliver { self.window() } else { self.window().max(free) }
    }

    /// The window to write into a segment that leaves now.
    pub(super) fn advertise(&mut self, sliver: u32, limit: u32) -> u32 {
        let window = self.window_to_offer(sliver).min(limit).max(self.window());
        self.edge = self.next.wrapping_add(window);
        self.acknowledged = self.next;
        window
    }

    /// Whether reading has opened the window so far that the peer must hear of it at once.
    pub(super) fn must_announce_window(&self, sliver: u32) -> bool {
        let window = self.window();
        if self.is_finished || window > self.capacity / 2 {
            return false;
        }
        let offer = self.window_to_offer(sliver);
        offer > 0 && offer >= 2 * window
    }

    /// Takes the bytes and the FIN of a segment.
    pub(super) fn accept(&mut self, seq: u32, mut payload: Bytes, mut fin: bool) -> Arrival {
        let end = seq.wrapping_add(payload.len() as u32 + u32::from(fin));
        if !before(self.next, end) {
            self.duplicate = Some((seq, end));
            return Arrival::Useless;
        }
        if self.is_finished || before(self.edge, seq) {
            return Arrival::Useless;
        }
        // What lies beyond the edge was never allowed, and nothing lies beyond a FIN. A lone FIN needs no room.
        let end_max = self.early.as_ref().and_then(|early| early.fin).unwrap_or(self.edge);
        if before(end_max, seq) {
            return Arrival::Useless;
        }
        let room = end_max.wrapping_sub(seq) as usize;
        if payload.len() > room {
            payload = Bytes::copy_from_slice(&payload[..room]);
            fin = false;
        }
        if before(self.next, seq) {
            self.keep_early(seq, payload, fin)
        } else {
            self.take_next(seq, payload, fin)
        }
    }

    fn take_next(&mut self, seq: u32, payload: Bytes, fin: bool) -> Arrival {
        let known = self.next.wrapping_sub(seq) as usize;
        if known > 0 {
            self.duplicate = Some((seq, self.next));
        }
        if payload.len() <= known && !fin {
            return Arrival::Useless;
        }
        self.push_from(seq, payload);
        let Some(mut early) = self.early.take() else {
            self.finish_if(fin);
            return Arrival::Next { closes_gap: false };
        };
        let mut joined = 0;
        while let Some(piece) = early.pieces.get_mut(joined).filter(|piece| !before(self.next, piece.seq)) {
            self.push_from(piece.seq, std::mem::take(&mut piece.payload));
            joined += 1;
        }
        early.pieces.drain(..joined);
        let next = self.next;
        self.finish_if(fin || early.fin == Some(next));
        early.blocks.remove_if(|start, _| !before(next, start));
        if !self.is_finished && (!early.pieces.is_empty() || early.fin.is_some()) {
            self.early = Some(early);
        }
        Arrival::Next { closes_gap: self.early.is_none() }
    }

    /// Appends what of `payload`, which starts at `seq`, is not known yet.
    fn push_from(&mut self, seq: u32, payload: Bytes) {
        let known = self.next.wrapping_sub(seq) as usize;
        if payload.len() <= known {
            return;
        }
        // A cut piece is copied: it must not keep the whole alive.
        let payload = if known == 0 { payload } else { Bytes::copy_from_slice(&payload[known..]) };
        self.next = self.next.wrapping_add(payload.len() as u32);
        self.unread_bytes += payload.len() as u32;
        self.unread.push_back(payload);
        if self.unread.len() > CHUNKS_MAX {
            let mut joined = BytesMut::with_capacity(self.unread_bytes as usize);
            self.unread.drain(..).for_each(|chunk| joined.extend_from_slice(&chunk));
            self.unread.push_back(joined.freeze());
        }
    }

    fn finish_if(&mut self, fin: bool) {
        if fin {
            self.next = self.next.wrapping_add(1);
            self.is_finished = true;
            // The FIN may have come just past a full window.
            if before(self.edge, self.next) {
                self.edge = self.next;
            }
        }
    }

    fn keep_early(&mut self, seq: u32, payload: Bytes, fin: bool) -> Arrival {
        let end = seq.wrapping_add(payload.len() as u32);
        let early = self.early.get_or_insert_default();
        // A FIN that would cut off what has come already is a lie.
        let fin = fin && early.pieces.last().is_none_or(|last| !before(end, last.end()));
        let is_known = (!fin || early.fin.is_some()) && !early.pieces.is_empty() && {
            let at = early.pieces.partition_point(|piece| !before(seq, piece.end()));
            early.pieces.get(at).is_some_and(|piece| !before(seq, piece.seq) && !before(piece.end(), end))
        };
        let is_kept = early.insert(seq, payload);
        if fin && is_kept {
            early.fin = Some(end);
        }
        if is_kept {
            early.note_block(seq, end.wrapping_add(u32::from(fin)));
        }
        if is_known {
            self.duplicate = Some((seq, end));
        }
        if early.pieces.is_empty() && early.fin.is_none() {
            self.early = None;
        }
        Arrival::Early
    }

    /// Moves bytes to the application.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let mut read = 0;
        while let Some(front) = self.unread.front_mut() {
            let length = front.len().min(into.len() - read);
            front.copy_to_slice(&mut into[read..read + length]);
            read += length;
            if !front.is_empty() {
                break;
            }
            self.unread.pop_front();
        }
        release(&mut self.unread);
        self.unread_bytes -= read as u32;
        read
    }

    /// What to report as arrived out of order or twice, `limit` blocks at most. A duplicate is reported once.
    pub(super) fn sack(&mut self, limit: usize) -> SackBlocks {
        if self.duplicate.is_none() && self.early.is_none() {
            return SackBlocks::default();
        }
        let blocks = self.early.as_ref().map_or(&[][..], |early| early.blocks.as_slice());
        self.duplicate.into_iter().chain(blocks.iter().copied()).take(limit).collect()
    }

    /// The report of [`ReceiveBuffer::sack`] has left.
    pub(super) fn note_reported(&mut self) {
        self.duplicate = None;
    }

    /// Gives up what the application will not read.
    pub(super) fn discard(&mut self) {
        self.unread = VecDeque::new();
        self.unread_bytes = 0;
        self.early = None;
        self.duplicate = None;
    }
}

impl Early {
    /// Keeps what of `payload` is new; `false` when there was no room for all of it.
    fn insert(&mut self, mut seq: u32, payload: Bytes) -> bool {
        let mut at = self.pieces.partition_point(|piece| !before(seq, piece.end()));
        let mut rest = &payload[..];
        while !rest.is_empty() {
            let length = match self.pieces.get(at) {
                Some(piece) if !before(seq, piece.seq) => piece.end().wrapping_sub(seq) as usize,
                Some(piece) => piece.seq.wrapping_sub(seq) as usize,
                None => rest.len(),
            };
            let length = length.min(rest.len());
            if self.pieces.get(at).is_none_or(|piece| before(seq, piece.seq)) {
                if self.pieces.len() >= PIECES_MAX {
                    return false;
                }
                let is_whole = length == payload.len();
                let part = if is_whole { payload.clone() } else { Bytes::copy_from_slice(&rest[..length]) };
                self.pieces.insert(at, Piece { seq, payload: part });
            }
            at += 1;
            seq = seq.wrapping_add(length as u32);
            rest = &rest[length..];
        }
        true
    }

    /// Puts the block that `start..end` belongs to first.
    fn note_block(&mut self, mut start: u32, mut end: u32) {
        for &(known_start, known_end) in self.blocks.as_slice() {
            if !before(end, known_start) && !before(known_end, start) {
                start = if before(known_start, start) { known_start } else { start };
                end = if before(end, known_end) { known_end } else { end };
            }
        }
        let mut others = self.blocks;
        others.remove_if(|other_start, other_end| !before(end, other_start) && !before(other_end, start));
        self.blocks = std::iter::once((start, end)).chain(others.as_slice().iter().copied()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u32 = u32::MAX - 20;

    fn at(offset: u32) -> u32 {
        START.wrapping_add(offset)
    }

    fn buffer(capacity: u32) -> ReceiveBuffer {
        let mut buffer = ReceiveBuffer::new(START, capacity);
        buffer.advertise(1, u32::MAX);
        buffer
    }

    fn text(bytes: &'static str) -> Bytes {
        Bytes::from_static(bytes.as_bytes())
    }

    fn read_all(buffer: &mut ReceiveBuffer) -> String {
        let mut into = vec![0; buffer.unread_bytes() as usize];
        assert_eq!(buffer.read(&mut into), into.len());
        String::from_utf8(into).expect("tests send text")
    }

    #[test]
    fn pieces_out_of_order_come_out_in_order_and_are_reported_latest_first() {
        let mut buffer = buffer(1000);
        assert_eq!(buffer.accept(at(10), text("kl"), false), Arrival::Early);
        assert_eq!(buffer.accept(at(20), text("uv"), false), Arrival::Early);
        assert_eq!(buffer.accept(at(5), text("fg"), false), Arrival::Early);
        assert_eq!(buffer.sack(3).as_slice(), [(at(5), at(7)), (at(20), at(22)), (at(10), at(12))]);
        assert_eq!(buffer.accept(at(7), text("hij"), false), Arrival::Early);
        assert_eq!(buffer.sack(3).as_slice(), [(at(5), at(12)), (at(20), at(22))]);
        assert_eq!(buffer.accept(at(0), text("abcdefgh"), false), Arrival::Next { closes_gap: false });
        assert_eq!(read_all(&mut buffer), "abcdefghijkl");
        assert_eq!(buffer.sack(3).as_slice(), [(at(20), at(22))]);
        assert_eq!(buffer.accept(at(12), text("mnopqrstuvw"), true), Arrival::Next { closes_gap: true });
        assert_eq!(read_all(&mut buffer), "mnopqrstuvw");
        assert!(buffer.is_finished);
    }

    #[test]
    fn what_came_twice_is_reported_first_and_once() {
        let mut buffer = buffer(1000);
        buffer.accept(at(0), text("abcd"), false);
        assert_eq!(buffer.accept(at(1), text("bc"), false), Arrival::Useless);
        assert_eq!(buffer.sack(3).as_slice(), [(at(1), at(3))]);
        buffer.note_reported();
        assert!(buffer.sack(3).is_empty());
    }

    #[test]
    fn a_fin_waits_for_the_gap_before_it() {
        let mut buffer = buffer(1000);
        assert_eq!(buffer.accept(at(4), text(""), true), Arrival::Early);
        assert_eq!(buffer.accept(at(4), text("beyond"), false), Arrival::Early);
        assert_eq!(buffer.accept(at(0), text("abcd"), false), Arrival::Next { closes_gap: true });
        assert!(buffer.is_finished);
        assert_eq!(read_all(&mut buffer), "abcd");
        assert_eq!(buffer.next, at(5));
    }

    #[test]
    fn nothing_beyond_the_window_is_kept() {
        let mut buffer = buffer(10);
        assert_eq!(buffer.accept(at(8), text("89abcd"), true), Arrival::Early);
        assert_eq!(buffer.early_bytes(), 2);
        assert_eq!(buffer.accept(at(0), text("01234567"), false), Arrival::Next { closes_gap: true });
        assert!(!buffer.is_finished);
        assert_eq!(buffer.accept(at(10), text("a"), false), Arrival::Useless);
        assert_eq!(buffer.accept(at(10), text(""), true), Arrival::Next { closes_gap: false });
        assert_eq!(buffer.window(), 0);
        assert_eq!(read_all(&mut buffer), "0123456789");
    }

    #[test]
    fn a_window_opens_only_by_a_whole_segment() {
        let mut buffer = buffer(4000);
        let full = Bytes::from(vec![7; 4000]);
        buffer.accept(at(0), full, false);
        assert_eq!(buffer.advertise(1000, u32::MAX), 0);
        let mut into = [0; 999];
        buffer.read(&mut into);
        assert_eq!(buffer.window_to_offer(1000), 0);
        assert!(!buffer.must_announce_window(1000));
        buffer.read(&mut into[..1]);
        assert_eq!(buffer.window_to_offer(1000), 1000);
        assert!(buffer.must_announce_window(1000));
    }

    #[test]
    fn pieces_are_limited_and_the_stream_still_moves() {
        let count = PIECES_MAX as u32 + 1;
        let mut buffer = buffer(100_000);
        for piece in 0..count {
            buffer.accept(at(1 + 2 * piece), text("x"), false);
        }
        assert_eq!(buffer.early_bytes(), PIECES_MAX);
        for hole in 0..count {
            buffer.accept(at(2 * hole), text("-"), false);
        }
        assert_eq!(buffer.next, at(2 * count - 1));
        assert_eq!(read_all(&mut buffer).len() as u32, 2 * count - 1);
    }
}
