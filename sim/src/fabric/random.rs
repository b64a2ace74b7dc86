//! Randomness: one stream for each thing that draws.
//!
//! A stream is derived from the run's seed and the name of what draws from it, so that adding a node, a link or a draw
//! changes nothing for the others, and a failing scenario can be shrunk.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::scenario::{Chance, Drift};

/// A stream of random numbers, the same on every platform.
#[derive(Debug)]
pub struct Stream(Box<ChaCha8Rng>);

impl Stream {
    /// The stream of the thing called `name` in the run with this seed.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(name.as_bytes());
        Self(Box::new(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())))
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number from `low` to `high`, both possible. `low` is not greater than `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high - low) + 1;
        low + ((u128::from(self.draw()) * span) >> 64) as u64
    }

    /// How far a clock is off.
    pub fn drift(&mut self, drift: Drift) -> i64 {
        drift.from + self.between(0, drift.from.abs_diff(drift.to)) as i64
    }

    /// Draws how far ahead a clock starts. Of a range that is one moment it draws nothing.
    pub fn skew(&mut self, (from, to): (Duration, Duration)) -> Duration {
        if from == to {
            return from;
        }
        Duration::from_nanos(self.between(from.as_nanos() as u64, to.as_nanos() as u64))
    }

    /// True with the given chance. A chance of zero or of one draws nothing.
    pub fn happens(&mut self, chance: Chance) -> bool {
        match chance.ppm {
            0 => false,
            1_000_000.. => true,
            ppm => (u64::from(self.0.next_u32()) * 1_000_000) >> 32 < u64::from(ppm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_name_and_on_nothing_else() {
        let draw = |seed, name| Stream::new(seed, name).draw();
        assert_eq!(draw(1, "n01/up"), draw(1, "n01/up"));
        assert_ne!(draw(1, "n01/up"), draw(1, "n02/up"));
        assert_ne!(draw(1, "n01/up"), draw(2, "n01/up"));
    }

    #[test]
    fn a_chance_happens_as_often_as_it_says() {
        let mut stream = Stream::new(7, "x");
        let hits = (0..100_000).filter(|_| stream.happens(Chance { ppm: 100_000 })).count();
        assert!((9_500..10_500).contains(&hits), "{hits} of 100000 at 10 %");
        assert!(!stream.happens(Chance { ppm: 0 }));
        assert!(stream.happens(Chance { ppm: 1_000_000 }));
    }

    #[test]
    fn both_ends_of_a_range_are_drawn() {
        let mut stream = Stream::new(7, "x");
        let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| stream.between(3, 5)).collect();
        assert_eq!(drawn, [3, 4, 5].into());
    }
}
