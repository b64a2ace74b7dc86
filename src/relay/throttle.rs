//! How fast the sessions of one service may move bytes, all of them together, each direction for itself.
//!
//! A session moves bytes first and pays then: each byte puts off, for everybody, the time until which the account is paid,
//! and the session has its next turn when that time is less than [`BURST`] away. So sessions take turns, each pays for
//! what it moved itself, and on average no more is moved than may be. What can't be moved yet stays where it is, in the
//! sockets of whoever sends it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::Timestamp;
use crate::net::{Alarm, Net};

/// What a quiet service may move at once, in time at its full rate.
const BURST: Duration = Duration::from_millis(100);

/// From where to where bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// The rate of one service, and what its sessions have used of it.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Bits a second in each direction; 0 when there is no limit.
    rate: AtomicU64,
    paid_until: [Mutex<Timestamp>; 2],
}

impl Throttle {
    /// So many bits a second from now on, also for sessions that go on.
    pub(super) fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or_default(), Ordering::Relaxed);
    }

    /// When a session that has moved so many bytes has its next turn.
    fn pay(&self, now: Timestamp, direction: Direction, bytes: usize) -> Timestamp {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return now;
        }
        let nanos = bytes as u128 * 8_000_000_000 / u128::from(rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let account = &self.paid_until[direction as usize];
        let mut paid_until = account.lock().expect("nothing panics while it holds this lock");
        *paid_until = now.max(*paid_until).after(cost);
        now.after(paid_until.since(now).saturating_sub(BURST))
    }
}

/// Says when a session may move bytes.
pub(super) trait Pace {
    /// Ready when bytes may be moved in this direction.
    fn poll_turn(&mut self, context: &mut Context<'_>, direction: Direction) -> Poll<()>;

    /// So many bytes were moved.
    fn moved(&mut self, direction: Direction, bytes: usize);
}

/// As fast as it goes.
#[derive(Debug)]
pub(super) struct Unpaced;

impl Pace for Unpaced {
    fn poll_turn(&mut self, _: &mut Context<'_>, _: Direction) -> Poll<()> {
        Poll::Ready(())
    }

    fn moved(&mut self, _: Direction, _: usize) {}
}

/// One session of a service with a limit.
pub(super) struct Paced<N: Net> {
    net: N,
    throttle: Arc<Throttle>,
    gates: [Option<N::Alarm>; 2],
}

impl<N: Net> Paced<N> {
    pub(super) const fn new(net: N, throttle: Arc<Throttle>) -> Self {
        Self { net, throttle, gates: [None, None] }
    }
}

impl<N: Net> Pace for Paced<N> {
    fn poll_turn(&mut self, context: &mut Context<'_>, direction: Direction) -> Poll<()> {
        let gate = &mut self.gates[direction as usize];
        if let Some(alarm) = gate {
            ready!(alarm.poll_ring(context));
            *gate = None;
        }
        Poll::Ready(())
    }

    fn moved(&mut self, direction: Direction, bytes: usize) {
        let now = self.net.now();
        let turn = self.throttle.pay(now, direction, bytes);
        if turn > now {
            let mut alarm = self.net.alarm();
            alarm.set(Some(turn));
            self.gates[direction as usize] = Some(alarm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_together_move_what_may_be_moved_and_each_pays_for_itself() {
        let throttle = Throttle::default();
        throttle.set(Some(8_000_000));
        let at = Timestamp::from_millis;
        // A megabyte a second: a kilobyte a millisecond, a hundred of them at once.
        let pay = |now, bytes| throttle.pay(at(now), Direction::Up, bytes);
        assert_eq!(pay(1000, 100_000), at(1000));
        assert_eq!(pay(1000, 50_000), at(1050));
        assert_eq!(pay(1000, 50_000), at(1100), "another session, that comes after it");
        assert_eq!(throttle.pay(at(1000), Direction::Down, 100_000), at(1000), "the other direction");
        assert_eq!(pay(1050, 50_000), at(1150));
        // What nobody used in a quiet time is not saved up.
        assert_eq!(pay(9000, 101_000), at(9001));
        throttle.set(None);
        assert_eq!(pay(9000, 1_000_000), at(9000));
    }
}
