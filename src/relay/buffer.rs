//! Buffers for bytes on their way through, shared by all sessions of a thread.
//!
//! A session holds one only while bytes wait in it, so ten thousand idle sessions hold none, and busy ones find the same few
//! buffers again and again, still in the processor's cache. What was in a buffer before is never seen: whoever takes one
//! reads only what it has written.

use std::cell::RefCell;

/// The size of a buffer: a system call for each 64 KiB costs little beside moving them.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// Buffers that a thread keeps for the next session; the rest goes back to the allocator.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer and the part of it that has bytes in it. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty one.
    pub(super) fn take() -> Self {
        let free = FREE.with(|free| free.borrow_mut().pop());
        Self { bytes: free.unwrap_or_else(|| vec![0; BUFFER_BYTES]), start: 0, end: 0 }
    }

    /// The bytes in it.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes bytes off the front.
    pub(super) const fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// The room after the bytes in it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// How much room there is after the bytes in it.
    pub(super) const fn room_len(&self) -> usize {
        BUFFER_BYTES - self.end
    }

    /// So many bytes of the room were written.
    pub(super) const fn advance(&mut self, count: usize) {
        self.end += count;
    }

    /// Adds bytes, for which there must be room.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    /// Moves what is in it to the front, so that all room is behind it.
    pub(super) fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that ends has no use for it any more.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(bytes);
            }
        });
    }
}
