//! What a node knows of one peer: what it said, the links to and from it, and what was counted on them.
//!
//! A peer is *ready* once it introduced itself with HELLO. Before that it is only a place to dial, and the application
//! does not know of it.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::liveness::{Liveness, Patience};
use super::machine::{InboundLink, OutboundLink};
use super::sequence::Sequence;
use super::{Endpoint, Headers, PeerId, Text};
use crate::Timestamp;

/// A peer, as a node can describe it to its application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Its name.
    pub name: Text,
    /// What it tells about itself.
    pub headers: Headers,
    /// Where it listens, as it says.
    pub endpoint: Text,
    /// The groups it is in, sorted.
    pub groups: Vec<Text>,
}

/// What a peer said in its HELLO.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) name: Text,
    pub(super) headers: Headers,
    pub(super) endpoint: Text,
    /// Whether it is one of us.
    pub(super) is_hailer: bool,
}

/// One peer.
#[derive(Debug)]
// In this order in memory: what each beacon looks at comes first, in as few cache lines as it needs.
#[repr(C)]
pub(super) struct Peer {
    /// Where its last beacon came from, with the port it carried, and when.
    pub(super) heard_at: Option<(SocketAddr, Timestamp)>,
    /// Where others come from, the last one first: it is on several networks of ours.
    heard_elsewhere: Vec<(SocketAddr, Timestamp)>,
    /// It said that it leaves, and is gone then at the latest.
    pub(super) leaves_by: Option<Timestamp>,
    pub(super) liveness: Liveness,
    /// What it said; `None` until it is ready.
    pub(super) introduction: Option<Introduction>,
    pub(super) groups: BTreeSet<Text>,
    /// The status that it told last.
    pub(super) status: u8,
    /// It spoke of elections itself, so it understands what is said of them.
    pub(super) knows_elections: bool,
    /// The link its messages come on.
    pub(super) inbound: Option<InboundLink>,
    pub(super) received: Sequence,
    pub(super) outbound: Outbound,
    pub(super) sent: Sequence,
    /// Where it may be reached, best first; at least one. Attempts take turns.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) since: Timestamp,
    /// PINGs that were not answered yet, oldest first: answers come in their order. Those that the application asked for have
    /// a token.
    pub(super) pings: VecDeque<Option<u64>>,
}

impl Peer {
    /// As many endpoints as a peer can have: where its beacons come from, where it says it is, where its connection came
    /// from, and one more for a peer that moves.
    const ENDPOINTS_MAX: usize = 4;

    /// A peer that is heard elsewhere is at this place no more when no beacon came from there for this long.
    const PLACE_LOST: Duration = Duration::from_secs(5);

    pub(super) fn new(now: Timestamp, endpoints: Vec<Endpoint>, link: OutboundLink) -> Self {
        Self {
            introduction: None,
            groups: BTreeSet::new(),
            status: 0,
            knows_elections: false,
            inbound: None,
            received: Sequence::default(),
            outbound: Outbound::new(link),
            sent: Sequence::default(),
            endpoints,
            heard_at: None,
            heard_elsewhere: Vec::new(),
            since: now,
            leaves_by: None,
            liveness: Liveness::new(now),
            pings: VecDeque::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.introduction.is_some()
    }

    /// Whether it is one of us.
    pub(super) fn is_hailer(&self) -> bool {
        self.introduction.as_ref().is_some_and(|introduction| introduction.is_hailer)
    }

    /// Its name; empty until it is ready.
    pub(super) fn name(&self) -> Text {
        self.introduction.as_ref().map_or_else(Text::default, |introduction| introduction.name.clone())
    }

    pub(super) fn info(&self, peer: PeerId) -> Option<PeerInfo> {
        let introduction = self.introduction.as_ref()?;
        Some(PeerInfo {
            peer,
            name: introduction.name.clone(),
            headers: introduction.headers.clone(),
            endpoint: introduction.endpoint.clone(),
            groups: self.groups.iter().cloned().collect(),
        })
    }

    /// Notes where a beacon came from, and says so when that changes where this peer is.
    pub(super) fn hear_at(&mut self, now: Timestamp, address: SocketAddr) -> Option<Heard> {
        // As nearly always: one place, and it is this one.
        if let Some((last, at)) = &mut self.heard_at
            && *last == address
            && self.heard_elsewhere.is_empty()
        {
            *at = now;
            return None;
        }
        let mut places: Vec<_> = self.heard_at.into_iter().chain(self.heard_elsewhere.drain(..)).collect();
        let before = places.len();
        places.retain(|(other, _)| *other != address);
        let is_new = places.len() == before;
        let is_move = !places.is_empty();
        let (mut places, lost): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(_, at)| now.since(*at) < Self::PLACE_LOST);
        places.truncate(Self::ENDPOINTS_MAX - 1);
        self.heard_at = Some((address, now));
        self.heard_elsewhere = places;
        let lost: Vec<_> = lost.into_iter().map(|(address, _)| address).collect();
        (is_new || !lost.is_empty()).then_some(Heard { is_move, lost })
    }

    /// Forgets places to try, but for the one that is in use.
    pub(super) fn forget_endpoints(&mut self, lost: &[SocketAddr]) {
        let current = self.endpoint().clone();
        let is_lost = |endpoint: &Endpoint| endpoint.socket_addr().is_some_and(|at| lost.contains(&at));
        self.endpoints.retain(|endpoint| *endpoint == current || !is_lost(endpoint));
        self.prefer_endpoint(current);
    }

    /// Adds a place to try after the others.
    pub(super) fn add_endpoint(&mut self, endpoint: Endpoint) {
        if !self.endpoints.contains(&endpoint) {
            self.endpoints.truncate(Self::ENDPOINTS_MAX - 1);
            self.endpoints.push(endpoint);
        }
    }

    /// Makes this the next place to try.
    pub(super) fn prefer_endpoint(&mut self, endpoint: Endpoint) {
        self.add_endpoint(endpoint.clone());
        let place = self.endpoints.iter().position(|other| *other == endpoint);
        self.outbound.turn = place.unwrap_or_default();
    }

    /// The place to try now.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.outbound.turn % self.endpoints.len()]
    }

    /// When this peer wants attention if nothing happens before.
    pub(super) fn due(&self, patience: &Patience) -> Timestamp {
        let dial = match self.outbound.state {
            State::Waiting { until } | State::Listening { until } => until,
            State::Dialling | State::Open { .. } => Timestamp::NEVER,
        };
        let quiet = if self.is_ready() {
            self.liveness.due(patience)
        } else {
            self.since.after(patience.not_ready())
        };
        dial.min(quiet).min(self.leaves_by.unwrap_or(Timestamp::NEVER))
    }
}

/// What a beacon tells of where a peer is.
#[derive(Debug)]
pub(super) struct Heard {
    /// It may have moved: it is heard at another place than before, or at one of several no more.
    pub(super) is_move: bool,
    /// Where it is heard no more.
    pub(super) lost: Vec<SocketAddr>,
}

/// Our link to a peer. There always is one, even while nothing is connected: what we send waits in its queue, after
/// HELLO, so that nothing is lost to a slow dial.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) link: OutboundLink,
    pub(super) state: State,
    /// Number of the last attempt to connect this link.
    pub(super) attempt: u32,
    /// How many attempts took too long since the link was open.
    pub(super) timeouts: u32,
    /// Counts attempts that failed, to take endpoints in turn.
    turn: usize,
    /// Whether every attempt since the first endpoint's was refused.
    is_refused: bool,
    back_off: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// An attempt runs.
    Dialling,
    /// It is connected.
    Open { since: Timestamp },
    /// The next attempt waits.
    Waiting { until: Timestamp },
    /// No attempt yet: a beacon may tell a nearer place than the one that is known.
    Listening { until: Timestamp },
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Another endpoint is left to try.
    TryNext,
    /// All were tried; each of them refused.
    AllRefused,
    /// All were tried.
    AllFailed,
}

impl Outbound {
    const BACK_OFF_MIN: Duration = Duration::from_millis(100);
    const BACK_OFF_MAX: Duration = Duration::from_secs(1);
    /// A link that lived shorter than this counts as a failed attempt: a peer that accepts and closes must not make us
    /// dial without pause.
    const LIFE_MIN: Duration = Duration::from_secs(1);

    fn new(link: OutboundLink) -> Self {
        Self {
            link,
            state: State::Dialling,
            attempt: 0,
            timeouts: 0,
            turn: 0,
            is_refused: true,
            back_off: Self::BACK_OFF_MIN,
        }
    }

    /// Takes a fresh link. What is known about the way to the peer stays.
    pub(super) fn replace(&mut self, link: OutboundLink) {
        self.link = link;
        self.state = State::Dialling;
        self.attempt = 0;
    }

    /// Notes that the link is connected.
    pub(super) fn opened(&mut self, now: Timestamp) {
        self.state = State::Open { since: now };
        self.timeouts = 0;
        self.is_refused = false;
    }

    /// Notes that a connected link closed; whether it may be dialled again at once.
    pub(super) fn closed(&mut self, now: Timestamp, endpoints: usize) -> bool {
        let lived = matches!(self.state, State::Open { since } if now.since(since) >= Self::LIFE_MIN);
        if lived {
            self.back_off = Self::BACK_OFF_MIN;
            self.is_refused = true;
            self.turn %= endpoints;
        } else {
            self.turn += 1;
            self.is_refused = false;
        }
        lived
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&mut self, is_refusal: bool, endpoints: usize) -> AfterFailure {
        if self.turn.is_multiple_of(endpoints) {
            self.is_refused = true;
        }
        self.is_refused &= is_refusal;
        self.turn += 1;
        if !self.turn.is_multiple_of(endpoints) {
            AfterFailure::TryNext
        } else if self.is_refused {
            AfterFailure::AllRefused
        } else {
            AfterFailure::AllFailed
        }
    }

    /// Whether the last attempt at each endpoint was refused, and no other runs.
    pub(super) fn was_refused(&self) -> bool {
        self.is_refused && matches!(self.state, State::Waiting { .. })
    }

    /// Waits before the next attempt, longer each time; `jitter` takes up to half of the time off.
    pub(super) fn wait(&mut self, now: Timestamp, jitter: u64) -> Timestamp {
        let nanos = self.back_off.as_nanos() as u64;
        let until = now.after(Duration::from_nanos(nanos - jitter % (nanos / 2)));
        self.back_off = (self.back_off * 2).min(Self::BACK_OFF_MAX);
        self.state = State::Waiting { until };
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_a_second_and_keeps_half_of_itself_whatever_the_jitter() {
        for jitter in [0, 49_999_999, 50_000_000, u64::MAX] {
            let mut outbound = Outbound::new(OutboundLink::from_number(1));
            for full in [100, 200, 400, 800, 1000, 1000] {
                let until = outbound.wait(Timestamp::ZERO, jitter).as_nanos();
                assert!(until <= full * 1_000_000 && until > full * 500_000, "{until} of {full} ms");
            }
        }
    }

    #[test]
    fn a_round_is_refused_when_each_endpoint_refused() {
        let mut outbound = Outbound::new(OutboundLink::from_number(1));
        assert_eq!(outbound.failed(false, 2), AfterFailure::TryNext);
        assert_eq!(outbound.failed(true, 2), AfterFailure::AllFailed);
        assert_eq!(outbound.failed(true, 2), AfterFailure::TryNext);
        assert_eq!(outbound.failed(true, 2), AfterFailure::AllRefused);
    }
}
