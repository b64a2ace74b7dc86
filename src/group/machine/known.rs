//! What is known of one member or would-be member.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::announcement::MemberId;
use super::super::event::{Health, Member};
use super::super::limits;
use super::super::message::Entry;
use super::super::uri::HealthUri;
use super::CheckId;
use super::ring::mix;
use crate::Timestamp;

/// One of those who are known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What it says of itself, at the address where it is checked.
    pub(super) entry: Entry,
    /// What it says of itself at further addresses, the one heard last at the end.
    pub(super) others: Vec<Entry>,
    pub(super) state: State,
    /// When anything came from it last.
    pub(super) heard: Timestamp,
    /// When it answered us last.
    pub(super) answered: Option<Timestamp>,
    /// When somebody said last that it answered him.
    pub(super) vouched: Option<Timestamp>,
    /// When it is checked next; NEVER when nothing is planned.
    pub(super) next_check: Timestamp,
    /// When its state ends.
    pub(super) until: Timestamp,
    /// What the agenda has for it.
    pub(super) armed: Timestamp,
    pub(super) in_flight: Option<CheckId>,
    /// Whether to check it is our part of the common work.
    pub(super) is_duty: bool,
    /// Others reach it, we don't.
    pub(super) is_unreachable: bool,
    /// Whether our last check that failed was answered wrongly, and not just by silence.
    pub(super) has_failed: bool,
    /// Our checks that failed in a row: of somebody absent each, of a member each round.
    pub(super) failures: u8,
    /// The address that it counts for among those absent, while it is absent.
    pub(super) counted_at: Option<IpAddr>,
    /// Who wants to know how the check comes out.
    pub(super) askers: Vec<SocketAddr>,
}

/// How it is with one of those who are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No member: it announced itself and has not answered yet, or it is gone.
    Absent { was_member: bool, has_left: bool },
    /// A member.
    Healthy,
    /// A member that does not answer us; others are being asked.
    Doubted { since: Timestamp, ask_at: Timestamp },
    /// A member that answers nobody, as we or, `is_confirmed`, another said to all.
    Suspect { since: Timestamp, is_extended: bool, is_confirmed: bool },
}

impl Known {
    pub(super) fn new(entry: Entry, now: Timestamp) -> Self {
        Self {
            entry,
            others: Vec::new(),
            state: State::Absent { was_member: false, has_left: false },
            heard: now,
            answered: None,
            vouched: None,
            next_check: Timestamp::NEVER,
            until: Timestamp::NEVER,
            armed: Timestamp::NEVER,
            in_flight: None,
            is_duty: false,
            is_unreachable: false,
            has_failed: false,
            failures: 0,
            counted_at: None,
            askers: Vec::new(),
        }
    }

    pub(super) const fn is_member(&self) -> bool {
        !matches!(self.state, State::Absent { .. })
    }

    /// Whether it is of our kind, and not pir's.
    pub(super) const fn speaks(&self) -> bool {
        self.entry.port != 0
    }

    /// Whether this is the address that it is checked at. Further ones anybody could have named.
    pub(super) fn is_at(&self, address: IpAddr) -> bool {
        self.entry.health.at.ip() == address
    }

    /// When somebody, we or another, last had an answer from it.
    pub(super) fn last_answer(&self) -> Option<Timestamp> {
        self.answered.max(self.vouched)
    }

    /// When something has to be done about it at the latest.
    pub(super) fn due(&self) -> Timestamp {
        let ask_at = match self.state {
            State::Doubted { ask_at, .. } => ask_at,
            _ => Timestamp::NEVER,
        };
        self.until.min(self.next_check).min(ask_at)
    }

    /// What is to be dialled, the address that it is checked at first.
    pub(super) fn targets(&self) -> Vec<HealthUri> {
        std::iter::once(&self.entry).chain(&self.others).map(|entry| entry.target().clone()).collect()
    }

    /// Takes in what it says of itself at an address other than the one where it is checked.
    pub(super) fn note_other(&mut self, entry: Entry) {
        self.others.retain(|other| other.health.at != entry.health.at);
        if self.others.len() == limits::PLACES_MAX {
            self.others.remove(0);
        }
        self.others.push(entry);
    }

    /// Checks it at another address from now on, and keeps the old one.
    pub(super) fn move_to(&mut self, entry: Entry) {
        self.others.retain(|other| other.health.at != entry.health.at);
        let old = std::mem::replace(&mut self.entry, entry);
        self.note_other(old);
    }

    /// How long to wait before somebody who does not answer is checked again: twice as long each time.
    pub(super) fn back_off(&self, first: Duration, most: Duration) -> Duration {
        let doublings = u32::from(self.failures.saturating_sub(1)).min(16);
        (first * 2_u32.pow(doublings)).min(most)
    }

    pub(super) fn describe(&self) -> Member {
        let health = match self.state {
            State::Suspect { .. } => Health::Suspect,
            _ if self.is_unreachable => Health::Unreachable,
            _ => Health::Healthy,
        };
        let Entry { member, service, .. } = &self.entry;
        Member { id: *member, service: service.clone(), health_uri: self.entry.target().clone(), health }
    }
}

/// An entry's part in the digest by which two members see whether they know the same.
pub(super) fn digest(entry: &Entry) -> u64 {
    digest_of(entry.member, entry.version)
}

/// The part of a member of which there is no entry here: this one.
pub(super) const fn digest_of(member: MemberId, version: u32) -> u64 {
    let bits = member.bits();
    mix(mix(bits as u64 ^ version as u64) ^ (bits >> 64) as u64)
}
