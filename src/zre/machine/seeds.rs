//! Static peers: places where a node is, whoever it is.
//!
//! A beacon and gossip tell who is where; a static peer is only a place. So a link is opened to it without a peer, and the
//! peer is known when it is found out who answers:
//!
//! * A Hailer says so in the handshake, before anything is sent. The link becomes that peer's.
//! * zyre, pyre and the others say nothing there. They get our HELLO and answer with their own, on a link of theirs, and the
//!   link that we have becomes that peer's, too: a second one with a second HELLO would make zyre take us for restarted.
//!
//! A place whose peer is known, by whatever way, is left alone until that peer has exited.

use std::net::SocketAddr;
use std::time::Duration;

use super::{NodeMachine, OutboundLink, Output};
use crate::Timestamp;
use crate::zre::{Endpoint, PeerId};

/// How long one attempt to connect may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long whoever got our HELLO has to answer it.
const HELLO_WAIT: Duration = Duration::from_secs(20);
/// How often it is looked whether the peer at a place is still known, and the first wait after a failure,
const CHECK: Duration = Duration::from_secs(1);
/// which doubles up to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(8);

/// A place where a node is.
#[derive(Debug)]
pub(super) struct Seed {
    endpoint: Endpoint,
    /// Who was there last.
    peer: Option<PeerId>,
    state: State,
    back_off: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is done before this.
    Resting { until: Timestamp },
    /// An attempt to connect runs.
    Dialling { link: OutboundLink },
    /// It is connected, has our HELLO, and we do not know who it is.
    Greeted { link: OutboundLink, at: SocketAddr, until: Timestamp },
}

impl Seed {
    pub(super) const fn new(endpoint: Endpoint, now: Timestamp) -> Self {
        Self { endpoint, peer: None, state: State::Resting { until: now }, back_off: CHECK }
    }

    const fn link(&self) -> Option<OutboundLink> {
        match self.state {
            State::Resting { .. } => None,
            State::Dialling { link } | State::Greeted { link, .. } => Some(link),
        }
    }

    const fn due(&self) -> Timestamp {
        match self.state {
            State::Resting { until } | State::Greeted { until, .. } => until,
            State::Dialling { .. } => Timestamp::NEVER,
        }
    }

    fn fail(&mut self, now: Timestamp) {
        self.state = State::Resting { until: now.after(self.back_off) };
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }

    fn meet(&mut self, now: Timestamp, peer: PeerId) {
        self.peer = Some(peer);
        self.back_off = CHECK;
        self.state = State::Resting { until: now.after(CHECK) };
    }
}

impl NodeMachine {
    /// When the next static peer wants attention.
    pub(super) fn next_seed(&self) -> Timestamp {
        self.seeds.iter().map(Seed::due).min().unwrap_or(Timestamp::NEVER)
    }

    pub(super) fn check_seeds(&mut self, now: Timestamp) {
        for index in 0..self.seeds.len() {
            let seed = &mut self.seeds[index];
            if seed.due() > now {
                continue;
            }
            let is_known = seed.peer.is_some_and(|peer| self.peers.contains_key(&peer))
                || self.places.contains_key(&seed.endpoint);
            match seed.state {
                State::Greeted { link, .. } => {
                    seed.fail(now);
                    self.output(Output::Close(link));
                }
                _ if is_known => seed.state = State::Resting { until: now.after(CHECK) },
                _ => {
                    let link = self.new_link();
                    let seed = &mut self.seeds[index];
                    seed.state = State::Dialling { link };
                    let endpoint = seed.endpoint.clone();
                    self.counters.dialled += 1;
                    self.output(Output::Knock { link, endpoint, timeout: DIAL_TIMEOUT });
                }
            }
        }
    }

    /// A link to a static peer is through its handshake, with whoever it is.
    pub(super) fn on_answered(
        &mut self,
        now: Timestamp,
        link: OutboundLink,
        peer: Option<PeerId>,
        at: SocketAddr,
    ) {
        let Some(index) = self.seeds.iter().position(|seed| seed.link() == Some(link)) else { return };
        let place = Endpoint::from(at);
        match peer.or_else(|| self.places.get(&place).copied()) {
            // It is our own place: nothing will change about that.
            _ if peer == Some(self.id) || self.is_own(&place) => {
                self.seeds[index].state = State::Resting { until: Timestamp::NEVER };
                self.output(Output::Close(link));
            }
            Some(known) if self.peers.contains_key(&known) => {
                self.seeds[index].meet(now, known);
                let endpoint = self.seeds[index].endpoint.clone();
                if let Some(peer) = self.peers.get_mut(&known) {
                    peer.add_endpoint(endpoint);
                }
                self.output(Output::Close(link));
            }
            Some(peer) if self.is_full() => {
                self.counters.beacons_over_limit += 1;
                self.seeds[index].peer = Some(peer);
                self.seeds[index].fail(now);
                self.output(Output::Close(link));
            }
            Some(peer) => {
                self.seeds[index].meet(now, peer);
                let endpoint = self.seeds[index].endpoint.clone();
                self.create_on(now, peer, vec![endpoint], link);
                self.send_hello(peer);
            }
            None => {
                self.seeds[index].state = State::Greeted { link, at, until: now.after(HELLO_WAIT) };
                let frames = self.hello_for(&place);
                self.output(Output::Send { link, frames });
            }
        }
    }

    /// A link that is no peer's failed or closed.
    pub(super) fn on_seed_closed(&mut self, now: Timestamp, link: OutboundLink) {
        if let Some(seed) = self.seeds.iter_mut().find(|seed| seed.link() == Some(link)) {
            seed.fail(now);
            self.output(Output::Close(link));
        }
    }

    /// Somebody unknown said HELLO. If it is who has ours already, the link that it came on is its link from now on.
    pub(super) fn adopt_seed(&mut self, now: Timestamp, id: PeerId, endpoints: &[Endpoint]) -> bool {
        let greeted = self.seeds.iter_mut().find_map(|seed| match seed.state {
            State::Greeted { link, at, .. }
                if endpoints.contains(&seed.endpoint) || endpoints.contains(&at.into()) =>
            {
                seed.meet(now, id);
                Some((link, seed.endpoint.clone()))
            }
            _ => None,
        });
        let Some((link, endpoint)) = greeted else { return false };
        let others = endpoints.iter().filter(|other| **other != endpoint).cloned();
        self.create_on(now, id, [endpoint.clone()].into_iter().chain(others).collect(), link);
        if let Some(peer) = self.peers.get_mut(&id) {
            // Our HELLO was the first message.
            peer.sent.advance();
        }
        true
    }

    /// What our HELLO says has changed, and JOIN and LEAVE go to peers only: who has the old one gets a new one on a new link.
    pub(super) fn forget_greetings(&mut self, now: Timestamp) {
        for index in 0..self.seeds.len() {
            if let State::Greeted { link, .. } = self.seeds[index].state {
                self.seeds[index].state = State::Resting { until: now };
                self.output(Output::Close(link));
            }
        }
    }
}
