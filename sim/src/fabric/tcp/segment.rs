//! What two endpoints exchange: a TCP segment as a value, and the arithmetic of sequence numbers.
//!
//! Ports, addresses, checksums and the encoding belong to the fabric. The window is in bytes, already scaled.

use bytes::Bytes;

/// No segment is longer: the length field of an IP packet has 16 bits. Longer payloads are ignored on arrival.
pub const PAYLOAD_BYTES_MAX: usize = 65_535;

/// Whether `a` lies before `b` in sequence space (RFC 9293, 3.4).
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// One TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of the first byte, or of SYN or FIN where there is none.
    pub seq: u32,
    /// The next sequence number that the sender of this segment expects.
    pub ack: Option<u32>,
    /// Opens the connection; takes one sequence number.
    pub syn: bool,
    /// The sender has no more to send; takes one sequence number.
    pub fin: bool,
    /// Ends the connection at once.
    pub rst: bool,
    /// Nothing more follows for the moment.
    pub psh: bool,
    /// How many bytes after `ack` the sender of this segment is ready to receive.
    pub window: u32,
    /// The largest segment that its sender takes; only on SYN.
    pub mss: Option<u16>,
    /// What has arrived out of order, and first what has arrived twice (RFC 2018, RFC 2883).
    pub sack: SackBlocks,
    /// Clock values (RFC 7323). An answer to a segment for no connection has none.
    pub timestamps: Option<Timestamps>,
    /// The bytes.
    pub payload: Bytes,
    /// Some of it was sent before. For counters only: the receiver can't see it.
    pub is_retransmission: bool,
}

/// The timestamps option, in milliseconds as Linux counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// The latest value that the sender has from the receiver, 0 for none.
    pub echo: u32,
}

impl Segment {
    /// The sequence number after this segment.
    pub fn end(&self) -> u32 {
        let flags = u32::from(self.syn) + u32::from(self.fin);
        self.seq.wrapping_add(self.payload.len() as u32).wrapping_add(flags)
    }

    /// Bytes of TCP header and payload on the wire, with the options that Linux would send.
    pub fn wire_len(&self) -> usize {
        let mut options = 0;
        if self.mss.is_some() {
            options += 4;
        }
        if self.syn {
            options += 4; // window scale, padded
        }
        match (self.timestamps, self.syn) {
            (Some(_), _) => options += 12, // on a SYN its padding is the SACK-permitted option
            (None, true) => options += 4,
            (None, false) => {}
        }
        if !self.sack.is_empty() {
            options += 4 + 8 * self.sack.len();
        }
        20 + options.min(40) + self.payload.len()
    }

    /// What a host says to a segment for which it has no connection (RFC 9293, 3.10.7.1): a reset, unless the segment
    /// is one itself.
    pub fn reset_answering(&self) -> Option<Self> {
        if self.rst {
            return None;
        }
        Some(match self.ack {
            Some(ack) => Self { seq: ack, rst: true, ..Self::default() },
            None => Self { ack: Some(self.end()), rst: true, ..Self::default() },
        })
    }
}

/// Up to four ranges of sequence numbers, each `(start, end)` with `end` excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// The option has room for four.
    pub const MAX: usize = 4;

    /// Appends a block; says whether there was room.
    pub fn push(&mut self, start: u32, end: u32) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *slot = (start, end);
        self.len += 1;
        true
    }

    /// The blocks in the order of the option.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..self.len()]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps the first `count` at most.
    pub(super) fn truncate(&mut self, count: usize) {
        self.len = self.len.min(count.min(Self::MAX) as u8);
    }

    /// Forgets the blocks that `forget` names.
    pub(super) fn remove_if(&mut self, forget: impl Fn(u32, u32) -> bool) {
        let mut kept = Self::default();
        for &(start, end) in self.as_slice() {
            if !forget(start, end) {
                kept.push(start, end);
            }
        }
        *self = kept;
    }
}

impl FromIterator<(u32, u32)> for SackBlocks {
    /// Takes the first four.
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(blocks: I) -> Self {
        let mut taken = Self::default();
        for (start, end) in blocks {
            if !taken.push(start, end) {
                break;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_on_the_wire_are_those_of_a_capture() {
        let stamped = Segment { timestamps: Some(Timestamps::default()), ..Segment::default() };
        let syn = Segment { syn: true, mss: Some(1460), ..stamped.clone() };
        assert_eq!(syn.wire_len(), 40);
        assert_eq!(stamped.wire_len(), 32);
        assert_eq!(Segment { payload: Bytes::from_static(&[0; 150]), ..stamped.clone() }.wire_len(), 182);
        let sack: SackBlocks = [(1, 2), (3, 4), (5, 6)].into_iter().collect();
        assert_eq!(Segment { sack, ..stamped }.wire_len(), 60);
        assert_eq!(syn.reset_answering().expect("a SYN is answered").wire_len(), 20);
    }

    #[test]
    fn a_reset_answers_what_it_refuses_and_never_a_reset() {
        let syn = Segment { seq: u32::MAX, syn: true, ..Segment::default() };
        let refusal = syn.reset_answering().expect("a SYN is answered");
        assert_eq!((refusal.seq, refusal.ack, refusal.rst), (0, Some(0), true));
        assert_eq!(refusal.reset_answering(), None);
        let data =
            Segment { seq: 5, ack: Some(77), payload: Bytes::from_static(b"abc"), ..Segment::default() };
        let refusal = data.reset_answering().expect("data is answered");
        assert_eq!((refusal.seq, refusal.ack), (77, None));
    }

    #[test]
    fn the_order_of_sequence_numbers_wraps() {
        assert!(before(u32::MAX, 0));
        assert!(!before(0, u32::MAX));
        assert!(!before(7, 7));
    }
}
