//! One direction of a link: what becomes of each packet, and when it comes out at the other end.

use std::time::Duration;

use hailer::Timestamp;

use super::random::Stream;
use crate::scenario::{Delay, Direction};

/// One direction of a link at work.
#[derive(Debug)]
pub struct Pipe {
    direction: Direction,
    stream: Stream,
    /// When the last packet that was not held back comes out: the next one can't be earlier.
    last_out: Timestamp,
}

/// When the copies of a packet come out: none when it is lost, two when it is duplicated.
pub type Arrivals = [Option<Timestamp>; 2];

impl Pipe {
    /// A pipe with its own random stream.
    pub fn new(direction: Direction, stream: Stream) -> Self {
        Self { direction, stream, last_out: Timestamp::ZERO }
    }

    /// Sends a packet in at `now`.
    pub fn send(&mut self, now: Timestamp) -> Arrivals {
        if self.stream.happens(self.direction.loss) {
            return [None, None];
        }
        let first = self.arrival(now);
        let second = self.stream.happens(self.direction.duplicate).then(|| self.arrival(now));
        [Some(first), second]
    }

    fn arrival(&mut self, now: Timestamp) -> Timestamp {
        let out = now.after(draw(&self.direction.delay, &mut self.stream));
        if self.stream.happens(self.direction.reorder) {
            return out.after(self.direction.reorder_by);
        }
        self.last_out = self.last_out.max(out);
        self.last_out
    }
}

fn draw(delay: &Delay, stream: &mut Stream) -> Duration {
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

fn nanos(duration: Duration) -> u64 {
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
    use crate::scenario::Chance;

    const MS: Duration = Duration::from_millis(1);

    fn pipe(direction: Direction) -> Pipe {
        Pipe::new(direction, Stream::new(1, "test"))
    }

    #[test]
    fn a_fixed_delay_is_exact() {
        let mut pipe = pipe(Direction { delay: Delay::Fixed(MS * 5), ..Direction::default() });
        assert_eq!(pipe.send(Timestamp::from_millis(1)), [Some(Timestamp::from_millis(6)), None]);
    }

    #[test]
    fn packets_do_not_overtake_each_other_unless_reordering_says_so() {
        let delay = Delay::Uniform(MS, MS * 50);
        let mut pipe = pipe(Direction { delay: delay.clone(), ..Direction::default() });
        let outs: Vec<_> = (0..200).map(|i| pipe.send(Timestamp::from_millis(i))[0].unwrap()).collect();
        assert!(outs.is_sorted());

        let reorder = Chance { ppm: 100_000 };
        let mut pipe =
            super::tests::pipe(Direction { delay, reorder, reorder_by: MS * 20, ..Direction::default() });
        let outs: Vec<_> = (0..200).map(|i| pipe.send(Timestamp::from_millis(i))[0].unwrap()).collect();
        assert!(!outs.is_sorted());
    }

    #[test]
    fn loss_and_duplication_are_as_frequent_as_configured() {
        let (loss, duplicate) = (Chance { ppm: 100_000 }, Chance { ppm: 200_000 });
        let mut pipe = pipe(Direction { loss, duplicate, ..Direction::default() });
        let sent: Vec<Arrivals> = (0..20_000).map(|i| pipe.send(Timestamp::from_millis(i))).collect();
        let lost = sent.iter().filter(|arrivals| arrivals[0].is_none()).count();
        let doubled = sent.iter().filter(|arrivals| arrivals[1].is_some()).count();
        assert!((1_800..2_200).contains(&lost), "{lost} of 20000 at 10 %");
        assert!((3_350..3_850).contains(&doubled), "{doubled} of about 18000 at 20 %");
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
