//! Decides who is a member: announcements, checks and the evidence of others in; checks, messages and events out.
//!
//! Pure: no IO, no clock, no randomness but from its seed. This file has what goes in and out, and the choice between the
//! two rules; [`evidence`] is ours and [`pir`] is pir's.

use std::net::SocketAddr;
use std::time::Duration;

use super::announcement::{Announcement, MemberId};
use super::event::{Event, Member};
use super::message::{List, Message, Told};
use super::uri::HealthUri;
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::Interface;

mod evidence;
mod known;
mod pir;
mod ring;
#[cfg(test)]
mod tests;

pub(super) use evidence::Evidence;
pub(super) use pir::Pir;

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A datagram of pir's kind came.
    Announced { announcement: Announcement, from: SocketAddr },
    /// A datagram of our kind came.
    Told { told: Told, from: SocketAddr },
    /// A check came to its end.
    Checked { check: CheckId, outcome: Outcome },
    /// A list was fetched from a member; `None`: it could not be.
    Listed { from: MemberId, list: Option<List> },
    /// The machine's addresses, at the start and when they are others.
    Interfaces(Vec<Interface>),
    /// The application wants to leave.
    Leave,
    /// The deadline passed.
    Timeout,
}

/// One check, from its order to its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CheckId(pub(super) u64);

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The target with this index answered.
    Answered(usize),
    /// It was refused, or answered wrongly: there is a machine, and it does not do what it should.
    Failed,
    /// Nothing came in time.
    Silent,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Announce this member on every interface.
    Announce { version: u32 },
    /// Tell everybody, or one.
    Tell { message: Message, to: To },
    /// Tell everybody that this member lives.
    Refute { version: u32 },
    /// Check these addresses of one member, the first before the others.
    Check { check: CheckId, targets: Vec<HealthUri>, style: Style },
    /// Fetch the list of this member.
    FetchList { from: MemberId, at: SocketAddr, digest: u64 },
    /// Tell the application.
    Event(Event),
    /// Everything is said.
    Left,
}

/// Whom to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    All,
    One(SocketAddr),
}

/// How a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// How long it may take.
    pub(super) patience: Duration,
    /// After how long a further attempt is made beside those under way; without it there is one attempt.
    pub(super) retry: Option<Duration>,
}

/// The machine of one membership, by either rule.
#[derive(Debug)]
pub(super) enum GroupMachine {
    Evidence(Box<Evidence>),
    Pir(Box<Pir>),
}

impl GroupMachine {
    /// Everybody who is a member now.
    pub(super) fn members(&self) -> Vec<Member> {
        match self {
            Self::Evidence(machine) => machine.members(),
            Self::Pir(machine) => machine.members(),
        }
    }

    /// What another member that knows this `digest` is to be told.
    pub(super) fn list(&self, digest: u64) -> List {
        match self {
            Self::Evidence(machine) => machine.list(digest),
            Self::Pir(_) => List::default(),
        }
    }
}

impl Machine for GroupMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match self {
            Self::Evidence(machine) => machine.handle(now, input),
            Self::Pir(machine) => machine.handle(now, input),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        match self {
            Self::Evidence(machine) => machine.poll(),
            Self::Pir(machine) => machine.poll(),
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Evidence(machine) => machine.deadline(),
            Self::Pir(machine) => machine.deadline(),
        }
    }
}

/// A stream of random numbers (splitmix64).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ring::mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A span between the two.
    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let room = most.saturating_sub(least).as_nanos() as u64;
        least + Duration::from_nanos(if room == 0 { 0 } else { self.next() % room })
    }

    /// The span, up to a tenth more or less.
    fn jitter(&mut self, span: Duration) -> Duration {
        self.between(span * 9 / 10, span * 11 / 10)
    }
}
