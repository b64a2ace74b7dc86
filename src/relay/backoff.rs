//! How long to wait before the next attempt to reach a relay.
//!
//! At first the attempts come quickly, so that a relay which was only restarted is found again within a blink; then they
//! become rarer. Each wait is drawn anew between a half and the whole of what is due, so that the hosts of a relay which
//! comes back do not come back in step. The more hosts a relay has, the longer are the quick waits: then any of
//! many is back at once, and not all at the same time.

use std::time::Duration;

/// Quick attempts before waits begin to grow: six seconds of them.
const QUICK: u32 = 40;
/// The longest quick wait.
const SHORTEST: Duration = Duration::from_millis(200);
/// How much longer it is for each host beside this one: some four hundred come back in a second.
const EACH: Duration = Duration::from_millis(3);
/// The longest wait of all.
const LONGEST: Duration = Duration::from_secs(20);

/// Counts failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
    quick: Duration,
    random: u64,
}

impl Backoff {
    /// Nothing has failed. `seed` decides what is drawn.
    pub(super) const fn new(seed: u64) -> Self {
        Self { failures: 0, quick: SHORTEST, random: seed }
    }

    /// It has worked.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// So many hosts would come back together.
    pub(super) fn spread(&mut self, hosts: u32) {
        self.quick = EACH.saturating_mul(hosts).clamp(SHORTEST, LONGEST);
    }

    /// It has failed: how long to wait.
    pub(super) fn next(&mut self) -> Duration {
        let doublings = self.failures.saturating_sub(QUICK).min(16);
        self.failures = self.failures.saturating_add(1);
        self.jittered(self.quick.saturating_mul(1 << doublings).min(LONGEST))
    }

    /// A time between a half and the whole of `whole`.
    pub(super) fn jittered(&mut self, whole: Duration) -> Duration {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
        whole.mul_f64(0.5 + 0.5 * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_short_for_six_seconds_and_grow_to_twenty() {
        let mut backoff = Backoff::new(1);
        let quick: Vec<_> = (0..QUICK).map(|_| backoff.next()).collect();
        assert!(quick.iter().all(|wait| (SHORTEST / 2..=SHORTEST).contains(wait)));
        let all: Duration = quick.iter().sum();
        assert!((Duration::from_secs(5)..Duration::from_secs(7)).contains(&all), "{all:?}");
        let last = (0..100).map(|_| backoff.next()).last().unwrap();
        assert!((LONGEST / 2..=LONGEST).contains(&last));
        backoff.reset();
        assert!(backoff.next() <= SHORTEST);
    }

    #[test]
    fn many_hosts_leave_each_other_time() {
        let mut backoff = Backoff::new(1);
        backoff.spread(1000);
        let waits: Vec<_> = (0..QUICK).map(|_| backoff.next()).collect();
        assert!(
            waits.iter().all(|wait| (Duration::from_millis(1500)..=Duration::from_secs(3)).contains(wait))
        );
        assert!((0..100).all(|_| backoff.next() <= LONGEST));
        backoff.spread(50);
        backoff.reset();
        assert!(backoff.next() <= SHORTEST);
    }

    #[test]
    fn a_thousand_hosts_do_not_come_back_in_step() {
        let mut first: Vec<_> = (0..1000).map(|seed| Backoff::new(seed * 77).next().as_millis()).collect();
        first.sort_unstable();
        // No tenth of the time has more than twice its share.
        for from in (100..200).step_by(10) {
            let count = first.iter().filter(|wait| (from..from + 10).contains(*wait)).count();
            assert!(count < 200, "{count} of 1000 within 10 ms from {from} ms");
        }
    }
}
