//! Doors for the fuzz targets in `fuzz/` (feature `fuzzing`): bytes as values, and what is private otherwise.
//!
//! A decoder or a machine that is public needs no door; its target is in `fuzz/targets` alone. Nothing here is for
//! applications, and nothing of it is in a program that is built without the feature.

pub use crate::group::fuzzed::{group_list, group_machine, group_message};
pub use crate::relay::fuzzed::{relay_callers, relay_datagrams, relay_frames};
pub use crate::repeater::fuzzed::consul_answer;

/// Reads a fuzzer's bytes as choices. At their end every choice is the first one.
#[derive(Debug)]
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all choices are made.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of several values.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A number, one that bounds are likely to be at.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => small.into(),
            200..220 => u64::from(self.u16()),
            220..230 => u64::from(u16::MAX) - u64::from(self.byte()),
            230..240 => u64::from(u32::MAX) - u64::from(self.byte()),
            _ => u64::MAX - u64::from(self.byte()),
        }
    }

    /// As many bytes as a first one says, or as there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }
}
