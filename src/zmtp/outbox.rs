//! Bytes on their way out, in as few and as large pieces as copying is worth.
//!
//! It has no limit of its own: whoever queues messages watches [`Outbox::len`].

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Frame;

/// Bodies up to this many bytes are copied behind each other, so that many small messages leave in one write; larger ones
/// are shared, so that a large message to many peers is in memory once. A copy of 8 KiB costs about as much as the
/// bookkeeping for a piece of its own.
const COPIED_MAX: usize = 8 << 10;

/// Encoded frames in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// What comes after `pieces` and can still grow.
    tail: BytesMut,
    len: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes as they are.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds a frame.
    pub(super) fn put_frame(&mut self, frame: &Frame) {
        self.len += frame.encoded_len();
        frame.put_header(&mut self.tail);
        let body = frame.body();
        if body.len() <= COPIED_MAX {
            self.tail.extend_from_slice(body);
        } else {
            self.pieces.push_back(self.tail.split().freeze());
            self.pieces.push_back(body.clone());
        }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let piece = match self.pieces.pop_front() {
            Some(piece) => piece,
            None if self.tail.is_empty() => return None,
            None => self.tail.split().freeze(),
        };
        self.len -= piece.len();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(body: Bytes) -> Frame {
        Frame::Part { body, more: false }
    }

    #[test]
    fn small_frames_leave_together_and_large_ones_are_not_copied() {
        let small = part(Bytes::from(vec![1; COPIED_MAX]));
        let large = part(Bytes::from(vec![2; COPIED_MAX + 1]));
        let mut outbox = Outbox::default();
        for frame in [&small, &small, &large, &small] {
            outbox.put_frame(frame);
        }
        assert_eq!(outbox.len(), 3 * small.encoded_len() + large.encoded_len());

        let pieces: Vec<Bytes> = std::iter::from_fn(|| outbox.take()).collect();
        let lens: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lens, [2 * small.encoded_len() + 9, COPIED_MAX + 1, small.encoded_len()]);
        assert_eq!(pieces[1].as_ptr(), large.body().as_ptr());
        assert_eq!(outbox.len(), 0);
    }
}
