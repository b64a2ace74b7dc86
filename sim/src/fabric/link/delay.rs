//! How long a packet takes: draws from distributions of delays, and plans that change from time to time.
//!
//! Integers and tables only: floating-point library functions differ between platforms.

use std::time::Duration;

use hailer::Timestamp;

use super::super::random::Stream;
use crate::scenario::{Delay, Replan};

/// What a plan adds to every delay while it is in force.
#[derive(Debug)]
pub(super) struct Plans {
    replan: Replan,
    stream: Stream,
    /// Which plan is in force, counted from the start of the world.
    number: u64,
    /// Nanoseconds above the earliest that a plan can make a packet; from zero to twice the spread.
    added: u64,
}

impl Plans {
    /// Plans that are drawn from a stream of their own, one after the other and whether or not a packet meets them.
    pub(super) fn new(replan: Replan, mut stream: Stream) -> Self {
        let added = stream.between(0, nanos(replan.spread) * 2);
        Self { replan, stream, number: 0, added }
    }

    /// `delay` as the plan at `at` makes it, not below zero. `at` is never earlier than in the call before.
    pub(super) fn planned(&mut self, at: Timestamp, delay: Duration) -> Duration {
        let spread = nanos(self.replan.spread);
        let current = at.as_nanos() / nanos(self.replan.every).max(1);
        while self.number < current {
            self.number += 1;
            self.added = self.stream.between(0, spread * 2);
        }
        Duration::from_nanos((nanos(delay) + self.added).saturating_sub(spread))
    }
}

/// A delay from a distribution.
pub(crate) fn draw(delay: &Delay, stream: &mut Stream) -> Duration {
    match delay {
        Delay::Fixed(delay) => *delay,
        Delay::Uniform(low, high) => Duration::from_nanos(stream.between(nanos(*low), nanos(*high))),
        Delay::Normal { mean, deviation } => {
            let drawn = stream.draw();
            let is_above = drawn & 1 == 1;
            let offset =
                (u128::from(nanos(*deviation)) * u128::from(half_normal(drawn >> 1)) / 1_000_000) as u64;
            let mean = nanos(*mean);
            Duration::from_nanos(if is_above {
                mean.saturating_add(offset)
            } else {
                mean.saturating_sub(offset)
            })
        }
        Delay::Empirical(quantiles) => empirical(quantiles, stream),
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().min(u128::from(u64::MAX)) as u64
}

/// A value between two neighbouring quantiles, each gap being as likely as any other.
fn empirical(quantiles: &[Duration], stream: &mut Stream) -> Duration {
    match quantiles {
        [] => Duration::ZERO,
        [only] => *only,
        _ => {
            let gap = stream.between(0, quantiles.len() as u64 - 2) as usize;
            Duration::from_nanos(stream.between(nanos(quantiles[gap]), nanos(quantiles[gap + 1])))
        }
    }
}

/// Quantiles of the absolute value of a standard normal variable at k/64, in millionths, cut off at four deviations.
/// A table, because floating-point library functions differ between platforms.
const HALF_NORMAL: [u32; 65] = [
    0, 19_584, 39_176, 58_783, 78_412, 98_072, 117_770, 137_513, 157_311, 177_170, 197_099, 217_107, 237_202,
    257_394, 277_690, 298_102, 318_639, 339_312, 360_130, 381_105, 402_250, 423_576, 445_097, 466_825,
    488_776, 510_966, 533_410, 556_126, 579_132, 602_449, 626_099, 650_104, 674_490, 699_283, 724_514,
    750_215, 776_422, 803_173, 830_511, 858_484, 887_147, 916_557, 946_782, 977_898, 1_009_990, 1_043_158,
    1_077_516, 1_113_194, 1_150_349, 1_189_164, 1_229_859, 1_272_699, 1_318_011, 1_366_204, 1_417_797,
    1_473_468, 1_534_121, 1_601_009, 1_675_940, 1_761_670, 1_862_732, 1_987_428, 2_153_875, 2_417_559,
    4_000_000,
];

/// The half-normal quantile at `drawn` / 2^63, interpolated.
fn half_normal(drawn: u64) -> u64 {
    let cell = (drawn >> 57) as usize;
    let within = (drawn >> 25) & 0xffff_ffff;
    let (low, high) = (u64::from(HALF_NORMAL[cell]), u64::from(HALF_NORMAL[cell + 1]));
    low + (((high - low) * within) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_plan_holds_until_the_next_and_is_the_same_whoever_asks() {
        let replan = Replan { every: MS * 15_000, spread: MS * 9 };
        let plans = || Plans::new(replan, Stream::new(5, "plans"));
        let (mut dense, mut sparse) = (plans(), plans());
        let mut seen = std::collections::BTreeSet::new();
        for second in 0..15_000 {
            let at = Timestamp::from_millis(second * 1000);
            let delay = dense.planned(at, MS * 25);
            assert!((MS * 16..=MS * 34).contains(&delay), "{delay:?}");
            if second % 60 == 44 {
                assert_eq!(sparse.planned(at, MS * 25), delay, "at {second} s");
            }
            seen.insert(delay);
        }
        assert_eq!(seen.len(), 1000, "one delay for each plan");
        let mean = seen.iter().sum::<Duration>() / 1000;
        assert!((MS * 24..MS * 26).contains(&mean), "{mean:?}");
        assert!(seen.first().is_some_and(|least| *least < MS * 17));
        assert_eq!(plans().planned(Timestamp::ZERO, Duration::ZERO).max(MS * 9), MS * 9);
    }

    #[test]
    fn a_normal_delay_has_its_mean_and_deviation() {
        let delay = Delay::Normal { mean: MS * 100, deviation: MS * 10 };
        let mut stream = Stream::new(3, "normal");
        let draws: Vec<f64> = (0..50_000).map(|_| draw(&delay, &mut stream).as_secs_f64() * 1e3).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((99.8..100.2).contains(&mean), "mean {mean}");
        assert!((9.7..10.3).contains(&variance.sqrt()), "deviation {}", variance.sqrt());
    }

    #[test]
    fn empirical_delays_stay_within_their_quantiles() {
        let delay = Delay::Empirical(vec![MS, MS * 2, MS * 100]);
        let mut stream = Stream::new(3, "empirical");
        let draws: Vec<Duration> = (0..10_000).map(|_| draw(&delay, &mut stream)).collect();
        assert!(draws.iter().all(|drawn| (MS..=MS * 100).contains(drawn)));
        let below = draws.iter().filter(|drawn| **drawn <= MS * 2).count();
        assert!((4_800..5_200).contains(&below), "{below} of 10000 below the median");
    }
}
