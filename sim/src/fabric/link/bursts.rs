//! Loss that comes in bursts: the model of Gilbert and Elliott, in time instead of packets.
//!
//! The link is in a good state or in a bad one, and stays in each for a random while, exponentially distributed as in any
//! two-state process without memory. Time goes on whether or not anything is sent, so that a heartbeat once a second
//! meets as many bad moments as a stream of video: with a model that moves from packet to packet, a burst of five lost
//! packets would keep a node away that sends one packet a second for five seconds.

use hailer::Timestamp;

use super::super::random::Stream;
use super::delay::nanos;
use crate::scenario::{Burst, Chance};

/// The good and bad times of one direction of a link.
#[derive(Debug)]
pub(super) struct Bursts {
    burst: Burst,
    stream: Stream,
    is_bad: bool,
    /// When the present state ends.
    until: Timestamp,
}

impl Bursts {
    /// Times that begin as if they had gone on for ever.
    pub(super) fn new(burst: Burst, mut stream: Stream) -> Self {
        let (good, bad) = (nanos(burst.good), nanos(burst.bad));
        let is_bad = stream.between(0, (good + bad).saturating_sub(1)) < bad;
        let rest = exponential(if is_bad { bad } else { good }, &mut stream);
        Self { burst, stream, is_bad, until: Timestamp::from_nanos(rest) }
    }

    /// The chance of being lost at `at` when that is in a bad time. `at` is never earlier than in the call before.
    pub(super) fn loss_at(&mut self, at: Timestamp) -> Option<Chance> {
        while self.until <= at {
            self.is_bad = !self.is_bad;
            let mean = if self.is_bad { self.burst.bad } else { self.burst.good };
            let stay = exponential(nanos(mean), &mut self.stream);
            self.until = Timestamp::from_nanos(self.until.as_nanos().saturating_add(stay));
        }
        self.is_bad.then_some(self.burst.loss)
    }
}

/// -log2(1 - k/128), in millionths: quantiles of the part of an exponential variable that is left when its whole halvings
/// are taken off. A table, because floating-point library functions differ between platforms.
const WITHIN_HALVING: [u32; 65] = [
    0, 11_315, 22_720, 34_216, 45_804, 57_485, 69_263, 81_137, 93_109, 105_182, 117_357, 129_635, 142_019,
    154_510, 167_110, 179_821, 192_645, 205_584, 218_640, 231_816, 245_112, 258_533, 272_080, 285_754,
    299_560, 313_499, 327_575, 341_789, 356_144, 370_643, 385_290, 400_087, 415_037, 430_144, 445_411,
    460_841, 476_438, 492_205, 508_147, 524_267, 540_568, 557_057, 573_735, 590_609, 607_683, 624_961,
    642_448, 660_150, 678_072, 696_219, 714_598, 733_213, 752_072, 771_181, 790_547, 810_175, 830_075,
    850_253, 870_717, 891_476, 912_537, 933_911, 955_606, 977_632, 1_000_000,
];
/// The natural logarithm of two, in millionths: a halving of an exponential variable, in units of its mean.
const LN_2: u128 = 693_147;

/// An exponentially distributed number of nanoseconds with this mean, at least one.
///
/// Whether it passes one halving, and another, is a coin thrown each time (the trailing zeros of half the bits); how far
/// it gets into the last one is drawn from the table (the other half). Cut off at 33 halvings, once in four thousand
/// million draws.
fn exponential(mean: u64, stream: &mut Stream) -> u64 {
    let drawn = stream.draw();
    let halvings = (drawn as u32).trailing_zeros();
    let (cell, within) = ((drawn >> 58) as usize, (drawn >> 32) & 0x03ff_ffff);
    let (low, high) = (u64::from(WITHIN_HALVING[cell]), u64::from(WITHIN_HALVING[cell + 1]));
    let millionths = u64::from(halvings) * 1_000_000 + low + (((high - low) * within) >> 26);
    let span = u128::from(mean) * u128::from(millionths) * LN_2 / 1_000_000_000_000;
    u64::try_from(span).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn bursts(good: Duration, bad: Duration) -> Bursts {
        let burst = Burst { loss: Chance { ppm: 1_000_000 }, good, bad };
        Bursts::new(burst, Stream::new(3, "bursts"))
    }

    #[test]
    fn the_table_is_the_logarithm_that_it_stands_for() {
        for (k, entry) in WITHIN_HALVING.iter().enumerate() {
            let exact = -(1.0 - k as f64 / 128.0).log2() * 1e6;
            assert!((f64::from(*entry) - exact).abs() <= 0.5, "entry {k}");
        }
    }

    #[test]
    fn stays_are_exponentially_distributed() {
        let mut stream = Stream::new(3, "exponential");
        let draws: Vec<u64> = (0..100_000).map(|_| exponential(1_000_000_000, &mut stream)).collect();
        let mean = draws.iter().sum::<u64>() / 100_000;
        assert!((990_000_000..1_010_000_000).contains(&mean), "mean {mean}");
        for means in [0.1, 0.5, 1.0, 2.0, 4.0] {
            let longer = draws.iter().filter(|drawn| **drawn as f64 > means * 1e9).count() as f64 / 1e5;
            let expected = (-means).exp();
            assert!((longer - expected).abs() < 0.005, "{longer} above {means} means, not {expected}");
        }
    }

    /// Looks every `step` for `looks` times; counts bad moments, and runs of them.
    fn watch(bursts: &mut Bursts, step: Duration, looks: u64) -> (u64, u64) {
        let (mut bad, mut runs, mut was_bad) = (0, 0, false);
        for look in 0..looks {
            let is_bad = bursts.loss_at(Timestamp::from_nanos(nanos(step) * look)).is_some();
            bad += u64::from(is_bad);
            runs += u64::from(is_bad && !was_bad);
            was_bad = is_bad;
        }
        (bad, runs)
    }

    #[test]
    fn bad_times_have_their_share_and_their_length() {
        // A look every millisecond for 5000 s: 50 s bad in about 500 bursts of 100 ms.
        let (bad, runs) = watch(&mut bursts(MS * 9_900, MS * 100), MS, 5_000_000);
        assert!((43_000..57_000).contains(&bad), "{bad} of 5000000 bad");
        let length = bad / runs;
        assert!((90..112).contains(&length), "{length} ms is the mean burst");
    }

    #[test]
    fn a_sparse_heartbeat_meets_as_many_bad_times_as_a_dense_stream() {
        // Ten times as long for the sparse one, as it looks a hundred times less often.
        let (sparse, _) = watch(&mut bursts(MS * 900, MS * 100), MS * 1000, 50_000);
        let (dense, _) = watch(&mut bursts(MS * 900, MS * 100), MS * 10, 500_000);
        assert!((4_700..5_300).contains(&sparse), "{sparse} of 50000 at 10 %");
        assert!((47_000..53_000).contains(&dense), "{dense} of 500000 at 10 %");
    }

    #[test]
    fn times_are_the_same_whatever_is_sent() {
        let (mut dense, mut sparse) = (bursts(MS * 90, MS * 10), bursts(MS * 90, MS * 10));
        for ms in 0..100_000 {
            let now = dense.loss_at(Timestamp::from_millis(ms));
            if ms % 997 == 0 {
                assert_eq!(sparse.loss_at(Timestamp::from_millis(ms)), now, "at {ms} ms");
            }
        }
    }

    #[test]
    fn a_stream_of_fifty_packets_a_second_sees_the_chances_of_the_packet_model() {
        // Of Wi-Fi in a crowd (see the profiles): a bad packet follows a good one with p, a good one a bad one with r.
        let (p, r) = (0.00408, 0.2);
        let mut bursts = bursts(MS * 4361, MS * 89);
        let (mut turns, mut packets, mut was_bad) = ([0_u64; 2], [0_u64; 2], false);
        for look in 0..3_000_000 {
            let is_bad = bursts.loss_at(Timestamp::from_millis(look * 20)).is_some();
            packets[usize::from(was_bad)] += 1;
            turns[usize::from(was_bad)] += u64::from(is_bad != was_bad);
            was_bad = is_bad;
        }
        let [seen_p, seen_r] = [0, 1].map(|state| turns[state] as f64 / packets[state] as f64);
        assert!((seen_p / p - 1.0).abs() < 0.05, "p is {seen_p}");
        assert!((seen_r / r - 1.0).abs() < 0.05, "r is {seen_r}");
    }
}
