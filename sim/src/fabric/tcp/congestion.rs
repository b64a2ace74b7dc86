//! How many segments may be in flight: slow start, CUBIC, and the proportional reduction after a loss.
//!
//! CUBIC follows RFC 9438 in integers (Linux's default algorithm, without its early slow-start exit HyStart++), the
//! reduction RFC 6937 as Linux has it. What counts as a loss is decided elsewhere.

use hailer::Timestamp;

use super::rtt::elapsed_us;
use super::segment::before;

/// No window grows beyond this many segments: more than the largest send buffer can fill at a sensible size.
const WINDOW_MAX: u32 = 1 << 16;
/// CUBIC's factor of decrease, 0.7, in parts of 1024.
const BETA: u32 = 717;

/// The congestion window of one connection, in segments.
#[derive(Debug)]
pub(super) struct Congestion {
    pub(super) window: u32,
    threshold: u32,
    // How much of the window was used: a window that is not filled says nothing about the path.
    is_limited: bool,
    peak_flight: u32,
    usage_end: u32,
    // The reduction under way.
    prior_window: u32,
    prior_threshold: u32,
    delivered: u32,
    sent: u32,
    // CUBIC.
    credit: u32,
    window_last_max: u32,
    epoch: Timestamp,
    origin: u32,
    inflection_ms: u32,
    reno_window: u32,
    reno_credit: u32,
}

impl Congestion {
    pub(super) fn new(window: u32) -> Self {
        Self {
            window,
            threshold: u32::MAX,
            is_limited: false,
            peak_flight: 0,
            usage_end: 0,
            prior_window: 0,
            prior_threshold: 0,
            delivered: 0,
            sent: 0,
            credit: 0,
            window_last_max: 0,
            epoch: Timestamp::NEVER,
            origin: 0,
            inflection_ms: 0,
            reno_window: 0,
            reno_credit: 0,
        }
    }

    /// Notes how much was in flight after sending, and whether this window was what ended it.
    pub(super) fn note_usage(&mut self, flight: u32, is_limited: bool, una: u32, next: u32) {
        if !before(una, self.usage_end) || is_limited || (!self.is_limited && flight > self.peak_flight) {
            self.is_limited = is_limited;
            self.peak_flight = flight;
            self.usage_end = next;
        }
    }

    /// Grows the window for `acked` segments, outside of a reduction.
    pub(super) fn grow(&mut self, now: Timestamp, acked: u32, round_trip_us: u32) {
        let is_slow_start = self.window < self.threshold;
        let is_used = self.is_limited || (is_slow_start && self.window < 2 * self.peak_flight);
        if !is_used {
            return;
        }
        let mut acked = acked.min(WINDOW_MAX);
        if is_slow_start {
            let grown = (self.window + acked).min(self.threshold).min(WINDOW_MAX);
            acked -= grown - self.window;
            self.window = grown;
        }
        if acked > 0 && self.window >= self.threshold {
            self.grow_cubic(now, acked, round_trip_us);
        }
    }

    fn grow_cubic(&mut self, now: Timestamp, acked: u32, round_trip_us: u32) {
        if self.epoch == Timestamp::NEVER {
            self.epoch = now;
            self.credit = 0;
            self.reno_window = self.window;
            self.reno_credit = 0;
            self.origin = self.window.max(self.window_last_max);
            // K = cbrt(distance / 0.4) seconds.
            self.inflection_ms = cube_root(u64::from(self.origin - self.window) * 2_500_000_000);
        }
        let age_ms = (elapsed_us(now, self.epoch) + u64::from(round_trip_us)) / 1000;
        // Beyond a thousand seconds from the inflection the cube is far above any window; so it fits the word.
        let offset_ms =
            (age_ms.min(2_000_000) as i64 - i64::from(self.inflection_ms)).clamp(-1_000_000, 1_000_000);
        let cubic = i64::from(self.origin) + 4 * offset_ms.pow(3) / 10_000_000_000;
        self.reno_credit += acked * 529;
        while self.reno_credit >= 1000 * self.reno_window {
            self.reno_credit -= 1000 * self.reno_window;
            self.reno_window = (self.reno_window + 1).min(WINDOW_MAX);
        }
        let target = (cubic.clamp(0, i64::from(self.window + self.window / 2)) as u32).max(self.reno_window);
        // Hundredths, because where the curve is flat a hundred windows earn one segment, as in Linux.
        let step = target.saturating_sub(self.window).min(self.window.div_ceil(2));
        let earned = u64::from(acked) * if step > 0 { 100 * u64::from(step) } else { 1 };
        let price = 100 * u64::from(self.window);
        let credit = u64::from(self.credit) + earned;
        self.credit = (credit % price) as u32;
        self.window = (u64::from(self.window) + credit / price).min(u64::from(WINDOW_MAX)) as u32;
    }

    /// The threshold after a loss.
    fn reduced(&mut self) -> u32 {
        self.epoch = Timestamp::NEVER;
        // Fast convergence: who lost before reaching its last maximum leaves room for others.
        self.window_last_max =
            if self.window < self.window_last_max { self.window * (1024 + BETA) / 2048 } else { self.window };
        (self.window * BETA / 1024).max(2)
    }

    /// A loss was found: begins a reduction.
    pub(super) fn begin_reduction(&mut self) {
        self.prior_window = self.window;
        self.prior_threshold = self.current_threshold();
        self.delivered = 0;
        self.sent = 0;
        self.threshold = self.reduced();
    }

    /// Spreads the reduction over the acknowledgements (RFC 6937).
    pub(super) fn reduce(&mut self, delivered: u32, newly_lost: bool, has_advanced: bool, in_flight: u32) {
        if delivered == 0 || self.prior_window == 0 {
            return;
        }
        self.delivered = self.delivered.saturating_add(delivered);
        let allowance = if in_flight > self.threshold {
            let share = u64::from(self.threshold) * u64::from(self.delivered);
            share.div_ceil(u64::from(self.prior_window)) as i64 - i64::from(self.sent)
        } else {
            let mut allowance = (i64::from(self.delivered) - i64::from(self.sent)).max(i64::from(delivered));
            if has_advanced && !newly_lost {
                allowance += 1;
            }
            allowance.min(i64::from(self.threshold - in_flight))
        };
        // The first retransmission of a recovery always goes.
        let allowance = allowance.max(i64::from(self.sent == 0));
        self.window = (i64::from(in_flight) + allowance).clamp(0, i64::from(WINDOW_MAX)) as u32;
    }

    /// Counts a segment sent during the reduction.
    pub(super) fn note_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// The reduction is complete.
    pub(super) fn end_reduction(&mut self) {
        self.window = self.threshold.min(WINDOW_MAX);
    }

    /// A time-out: one segment, and slow start. `is_new` when it isn't part of a loss already paid for.
    pub(super) fn collapse(&mut self, is_new: bool, in_flight: u32) {
        if is_new {
            self.prior_window = self.window;
            self.prior_threshold = self.current_threshold();
            self.threshold = self.reduced();
        }
        self.window = in_flight + 1;
        self.window_last_max = 0;
        self.epoch = Timestamp::NEVER;
        self.credit = 0;
    }

    /// The loss was none: takes the last reduction back.
    pub(super) fn undo(&mut self) {
        self.window = self.window.max(self.prior_window);
        self.threshold = self.threshold.max(self.prior_threshold);
    }

    /// Shrinks a window that was idle for `idle_us` towards the initial one, half for each time-out (RFC 2861).
    pub(super) fn restart_after_idle(&mut self, idle_us: u64, timeout_us: u64, initial: u32) {
        self.threshold = self.current_threshold();
        let floor = initial.min(self.window);
        let halvings = (idle_us / timeout_us.max(1)).min(31) as u32;
        self.window = (self.window >> halvings).max(floor);
        self.epoch = Timestamp::NEVER;
    }

    /// Nothing was ever lost: the threshold has not been found yet.
    pub(super) fn is_in_initial_slow_start(&self) -> bool {
        self.threshold == u32::MAX
    }

    fn current_threshold(&self) -> u32 {
        if self.threshold == u32::MAX { u32::MAX } else { self.threshold.max(self.window * 3 / 4) }
    }
}

/// The largest number whose cube is not above `value`.
fn cube_root(value: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..21).rev() {
        let candidate = root | 1 << bit;
        if candidate * candidate * candidate <= value {
            root = candidate;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_roots_are_exact() {
        for (value, root) in
            [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (999_999, 99), (1_000_000, 100)]
        {
            assert_eq!(cube_root(value), root);
        }
    }

    #[test]
    fn slow_start_doubles_a_window_that_is_used_and_leaves_one_that_is_not() {
        let mut busy = Congestion::new(10);
        busy.note_usage(10, true, 0, 10);
        busy.grow(Timestamp::ZERO, 10, 10_000);
        assert_eq!(busy.window, 20);
        let mut quiet = Congestion::new(10);
        quiet.note_usage(1, false, 0, 1);
        quiet.grow(Timestamp::ZERO, 1, 10_000);
        assert_eq!(quiet.window, 10);
    }

    #[test]
    fn a_reduction_ends_at_seven_tenths_and_cubic_returns_to_the_old_maximum() {
        let mut congestion = Congestion::new(100);
        congestion.begin_reduction();
        congestion.end_reduction();
        assert_eq!(congestion.window, 70);
        // K = cbrt(30 / 0.4) = 4.2 s; the path has a round trip of 100 ms.
        let mut reached_ms = None;
        for round in 0..100u64 {
            congestion.note_usage(congestion.window, true, 0, 0);
            congestion.grow(Timestamp::from_millis(round * 100), congestion.window, 100_000);
            if congestion.window >= 99 && reached_ms.is_none() {
                reached_ms = Some(round * 100);
            }
        }
        let reached_ms = reached_ms.expect("the old maximum is reached");
        assert!((2500..4800).contains(&reached_ms), "{reached_ms}");
    }

    #[test]
    fn a_timeout_leaves_one_segment() {
        let mut congestion = Congestion::new(10);
        congestion.collapse(true, 0);
        assert_eq!((congestion.window, congestion.threshold), (1, 7));
        congestion.undo();
        assert_eq!(congestion.window, 10);
    }
}
