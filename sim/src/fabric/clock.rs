//! A machine's own clock, which starts ahead of others and runs a little fast or slow.
//!
//! Programs see only this clock: what it shows, and alarms that ring when it shows their time. It never jumps and never
//! runs backwards, as the monotonic clock of a kernel; how fast it runs may change. The kernel's own timers, which are
//! those of TCP, keep the true time: some hundred parts in a million of a retransmission are nothing.

use std::time::Duration;

use hailer::Timestamp;

use super::{Fabric, HostId};
use crate::scenario::PARTS;

/// What a clock shows is linear in the true time, from the last change on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// When the present speed began.
    since: Timestamp,
    /// What the clock showed then.
    shown: Timestamp,
    /// How much faster than the true time it runs, in [`PARTS`]; slower when negative, and always above minus one.
    drift: i64,
}

impl Clock {
    /// What it shows.
    pub(super) fn read(&self, now: Timestamp) -> Timestamp {
        let passed = now.since(self.since);
        if self.drift == 0 {
            return self.shown.after(passed);
        }
        let shown = passed.as_nanos() * u128::from(self.speed()) / u128::from(PARTS.unsigned_abs());
        Timestamp::from_nanos(saturated(u128::from(self.shown.as_nanos()) + shown))
    }

    /// The first true moment at which it shows `time`, or something later.
    pub(super) fn when(&self, time: Timestamp) -> Timestamp {
        let ahead = time.since(self.shown);
        if self.drift == 0 {
            return self.since.after(ahead);
        }
        let passed = (ahead.as_nanos() * u128::from(PARTS.unsigned_abs())).div_ceil(u128::from(self.speed()));
        Timestamp::from_nanos(saturated(u128::from(self.since.as_nanos()) + passed))
    }

    fn speed(&self) -> u64 {
        (PARTS + self.drift).max(1).unsigned_abs()
    }
}

fn saturated(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl Fabric {
    /// What a machine's clock shows.
    pub fn clock(&self, host: HostId) -> Timestamp {
        self.hosts[host.index()].clock.read(self.now)
    }

    /// Makes a machine's clock, before anything runs on it: it shows `skew` more than the true time, and then goes on as
    /// [`Fabric::set_drift`] says.
    pub fn set_clock(&mut self, host: HostId, skew: Duration, drift: i64) {
        let now = self.now;
        self.hosts[host.index()].clock = Clock { since: now, shown: now.after(skew), drift };
    }

    /// From now on a machine's clock runs this much faster than the true time, in [`PARTS`]; slower when negative.
    /// Alarms that are set ring when the clock shows their time.
    pub fn set_drift(&mut self, host: HostId, drift: i64) {
        let now = self.now;
        let clock = &mut self.hosts[host.index()].clock;
        *clock = Clock { since: now, shown: clock.read(now), drift };
        self.alarms_again(host);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PPM: i64 = PARTS / 1_000_000;

    fn clock(drift: i64) -> Clock {
        Clock { since: Timestamp::from_millis(1000), shown: Timestamp::from_millis(1000), drift }
    }

    #[test]
    fn a_clock_that_starts_ahead_stays_ahead_and_its_past_is_over() {
        let ahead = Clock { since: Timestamp::ZERO, shown: Timestamp::from_millis(3000), drift: 0 };
        assert_eq!(ahead.read(Timestamp::from_millis(5000)), Timestamp::from_millis(8000));
        assert_eq!(ahead.when(Timestamp::from_millis(8000)), Timestamp::from_millis(5000));
        assert_eq!(ahead.when(Timestamp::from_millis(2000)), Timestamp::ZERO);
    }

    #[test]
    fn two_hundred_parts_in_a_million_are_twelve_milliseconds_a_minute() {
        let minute_later = Timestamp::from_millis(61_000);
        assert_eq!(clock(200 * PPM).read(minute_later), Timestamp::from_millis(61_012));
        assert_eq!(clock(-200 * PPM).read(minute_later), Timestamp::from_millis(60_988));
        assert_eq!(clock(0).read(minute_later), minute_later);
    }

    #[test]
    fn what_was_before_the_last_change_has_been() {
        assert_eq!(clock(7).when(Timestamp::ZERO), Timestamp::from_millis(1000));
        assert_eq!(clock(-7).when(Timestamp::NEVER), Timestamp::NEVER);
    }

    proptest! {
        #[test]
        fn a_clock_shows_a_time_for_the_first_time_when_it_says_so(
            drift in -PARTS / 2..=PARTS / 2, ahead in 0..1_u64 << 50,
        ) {
            let clock = clock(drift);
            let time = clock.shown.after(std::time::Duration::from_nanos(ahead));
            let when = clock.when(time);
            prop_assert!(clock.read(when) >= time);
            prop_assert!(when == clock.since || clock.read(Timestamp::from_nanos(when.as_nanos() - 1)) < time);
        }
    }
}
