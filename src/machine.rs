//! The contract of every decision-making part, and the time it is told.
//!
//! A machine does no IO, reads no clock, draws no randomness and starts no task. Whoever drives it
//!
//! 1. hands it exactly one input, with the time: [`Machine::handle`];
//! 2. takes outputs until there are none, and acts on each: [`Machine::poll`];
//! 3. comes back with the next input, or at [`Machine::deadline`] at the latest.
//!
//! So a log of `(now, input)` replays a machine exactly: it is the bug report. A fault of a remote peer leaves a machine
//! as an output; it is never a panic and never an error that stops the loop.

use std::fmt;
use std::time::Duration;

/// A decision-making part, driven as this module's documentation says.
pub trait Machine {
    /// What can happen to it. The passing of its deadline is one of the variants.
    type Input;
    /// What it wants done.
    type Output;

    /// Takes one input that happened at `now`. Time never runs backwards from call to call.
    fn handle(&mut self, now: Timestamp, input: Self::Input);

    /// The next thing to do, or `None` when the driver may wait.
    fn poll(&mut self) -> Option<Self::Output>;

    /// When the machine wants to be woken at the latest, or `None` when only an input can move it.
    fn deadline(&self) -> Option<Timestamp>;
}

/// A moment: nanoseconds since an origin that the network chose (process start, or the start of a simulation).
///
/// Only differences mean anything. It can be written as a constant, so that tests can say when things happen.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than every moment that can occur.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Seconds since the origin, for people.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment plus `span`; [`Timestamp::NEVER`] when that can't be expressed.
    pub const fn after(self, span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos > u64::MAX as u128 { Self::NEVER } else { Self(self.0.saturating_add(nanos as u64)) }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Timestamp {
    /// Seconds with nanoseconds, as `12.000345000s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp::NEVER.after(Duration::from_secs(1)), Timestamp::NEVER);
        assert_eq!(Timestamp::ZERO.after(Duration::MAX), Timestamp::NEVER);
        assert_eq!(Timestamp::ZERO.since(Timestamp::from_millis(5)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(7).since(Timestamp::from_millis(5)), Duration::from_millis(2));
    }
}
