//! The round trip: its smoothed value and variance, its minimum, and the retransmission time-out made of them.
//!
//! RFC 6298 with Linux's differences: the variance is tracked per round trip and has a floor of 200 ms, so that the
//! time-out of a quiet connection is its round trip plus 200 ms. Everything is in microseconds, as in Linux.

use hailer::Timestamp;

use super::config::Config;
use super::segment::before;

/// Longer samples are taken for this: nothing waits longer for an answer, and eight of them must fit a word.
const SAMPLE_US_MAX: u32 = 120_000_000;

/// `at` plus `us` microseconds.
pub(super) fn later(at: Timestamp, us: u64) -> Timestamp {
    Timestamp::from_nanos(at.as_nanos().saturating_add(us.saturating_mul(1000)))
}

/// Microseconds from `earlier` to `now`, 0 when it lies ahead.
pub(super) fn elapsed_us(now: Timestamp, earlier: Timestamp) -> u64 {
    now.as_nanos().saturating_sub(earlier.as_nanos()) / 1000
}

/// The estimate of one connection's round trip.
#[derive(Debug)]
pub(super) struct RoundTrip {
    /// Eight times the smoothed round trip; 0 without a sample.
    smoothed_x8_us: u32,
    /// Four times the mean deviation.
    deviation_x4_us: u32,
    /// The largest deviation within this round trip, not under the floor.
    deviation_peak_us: u32,
    /// What is added to the smoothed round trip.
    variance_us: u32,
    /// The shortest sample; `u32::MAX` without one.
    min_us: u32,
    /// The time-out without back-off.
    timeout_us: u32,
    /// When this is acknowledged, the round trip of `deviation_peak_us` is over.
    round_end: u32,
    /// How often the time-out has been doubled.
    backoff: u8,
}

impl RoundTrip {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            smoothed_x8_us: 0,
            deviation_x4_us: 0,
            deviation_peak_us: 0,
            variance_us: 0,
            min_us: u32::MAX,
            timeout_us: config.rto_initial_ms * 1000,
            round_end: 0,
            backoff: 0,
        }
    }

    /// Takes a sample; `una` and `next` are the first sequence number not acknowledged and the next to be sent.
    pub(super) fn sample(&mut self, config: &Config, sample_us: u64, una: u32, next: u32) {
        let sample = sample_us.clamp(1, u64::from(SAMPLE_US_MAX)) as u32;
        let floor_us = config.rto_min_ms * 1000;
        self.min_us = self.min_us.min(sample);
        if self.smoothed_x8_us == 0 {
            self.smoothed_x8_us = sample << 3;
            self.deviation_x4_us = sample << 1;
            self.variance_us = self.deviation_x4_us.max(floor_us);
            self.deviation_peak_us = self.variance_us;
            self.round_end = next;
        } else {
            let error = i64::from(sample) - i64::from(self.smoothed_x8_us >> 3);
            self.smoothed_x8_us = (i64::from(self.smoothed_x8_us) + error).max(1) as u32;
            let mut step = error.abs() - i64::from(self.deviation_x4_us >> 2);
            // A round trip that got shorter must not lengthen the time-out: such deviations count an eighth.
            if error < 0 && step > 0 {
                step >>= 3;
            }
            self.deviation_x4_us = (i64::from(self.deviation_x4_us) + step).max(0) as u32;
            self.deviation_peak_us = self.deviation_peak_us.max(self.deviation_x4_us);
            self.variance_us = self.variance_us.max(self.deviation_peak_us);
            if before(self.round_end, una) {
                self.variance_us -= (self.variance_us - self.deviation_peak_us) >> 2;
                self.round_end = next;
                self.deviation_peak_us = floor_us;
            }
        }
        self.timeout_us =
            (self.smoothed_x8_us >> 3).saturating_add(self.variance_us).min(config.rto_max_ms * 1000);
        // RFC 6298, 5.7: only a sample ends the back-off.
        self.backoff = 0;
    }

    /// The smoothed round trip, `None` without a sample.
    pub(super) fn smoothed_us(&self) -> Option<u32> {
        (self.smoothed_x8_us != 0).then_some(self.smoothed_x8_us >> 3)
    }

    /// The shortest round trip, `u32::MAX` without a sample.
    pub(super) fn min_us(&self) -> u32 {
        self.min_us
    }

    /// The retransmission time-out, doubled as often as was backed off.
    pub(super) fn timeout_us(&self, config: &Config) -> u64 {
        (u64::from(self.timeout_us) << self.backoff.min(20)).min(u64::from(config.rto_max_ms) * 1000)
    }

    /// Takes the doublings back.
    pub(super) fn hold_back_off(&mut self) {
        self.backoff = 0;
    }

    /// Doubles the time-out.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_connection_waits_its_round_trip_and_200_ms() {
        let config = Config::default();
        let mut trip = RoundTrip::new(&config);
        assert_eq!(trip.timeout_us(&config), 1_000_000);
        for round in 0..50 {
            trip.sample(&config, 20_000, round * 100, round * 100 + 50);
            assert_eq!(trip.timeout_us(&config), 220_000);
        }
        trip.back_off();
        trip.back_off();
        assert_eq!(trip.timeout_us(&config), 880_000);
        for _ in 0..20 {
            trip.back_off();
        }
        assert_eq!(trip.timeout_us(&config), 120_000_000);
        trip.sample(&config, 20_000, 9000, 9000);
        assert_eq!(trip.timeout_us(&config), 220_000);
    }

    #[test]
    fn the_first_sample_of_a_long_path_makes_three_round_trips() {
        let config = Config::default();
        let mut trip = RoundTrip::new(&config);
        trip.sample(&config, 300_000, 0, 0);
        assert_eq!(trip.timeout_us(&config), 900_000);
    }

    #[test]
    fn hostile_samples_stay_within_the_word() {
        let config = Config::default();
        let mut trip = RoundTrip::new(&config);
        for sample in [u64::MAX, 0, u64::MAX, 1, 1, u64::MAX] {
            trip.sample(&config, sample, 0, 0);
            assert!(trip.timeout_us(&config) <= 120_000_000);
        }
    }
}
