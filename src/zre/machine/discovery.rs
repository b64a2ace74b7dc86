//! How peers come to be, and how they end.
//!
//! A beacon makes a peer that is not ready: a place to dial and say HELLO to. A HELLO makes a peer ready, known before or
//! not, and the application is told.
//!
//! # Answer, but don't echo
//!
//! Each side needs the other's HELLO. So a HELLO from a stranger is answered, and a HELLO from a peer that we wait for is
//! not: ours is on its way. A HELLO from a *ready* peer is harder. Either it lost us (it was restarted, or gave us up)
//! and needs our HELLO; or it is the answer to a HELLO of ours (our link had to be made anew, which is how zyre and we
//! answer that). If both sides took each other's answer for a cry, they would greet each other without end, and zyre
//! alone makes this mistake (its issues 753 to 756).
//!
//! The HELLO does not say which it is, so we look at our own link. Not connected yet: our HELLO will come. Connected for
//! long: the peer lost us; a fresh link is opened at once. Connected just now ([`ECHO`]): it is the answer, as a rule; the
//! link is kept and probed with PING. A peer that knows us sends PING-OK; one that does not drops whatever comes before
//! HELLO, and then, a little later, a fresh link is opened all the same. Two that do so settle after one exchange,
//! because the link that a HELLO went out on is new.

use std::net::SocketAddr;
use std::time::Duration;

use super::{InboundLink, KIND_HEADER, NodeMachine, Output};
use crate::Timestamp;
use crate::zre::beacon::{Beacon, BeaconError};
use crate::zre::message::Hello;
use crate::zre::peer::{Heard, Introduction, Peer, State};
use crate::zre::sequence::Sequence;
use crate::zre::{Endpoint, Event, ExitReason, PeerId, Text};

/// Our link is connected since less than this: a HELLO from a ready peer may be the answer to the one that went out on it.
/// Long, because on a bad network the answer takes connection, handshake and lost packets; the price is the time of one
/// probe for a peer that lost us twice within it.
const ECHO: Duration = Duration::from_secs(10);

/// How long an answer is waited for when there is a reason to doubt the link. The connections repeat a lost segment each
/// 0.2 s (see `net`), so even at 30 % loss PING and PING-OK are there by then but once in 10,000 times.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// How long the connection of a peer that says it leaves may take to bring what it said before, and to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a HELLO is not believed.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// It is not the first message of a link.
    Sequence,
    /// It names no place where its sender could be.
    NoPlace,
    /// It names our own endpoint.
    OurPlace,
    /// There are too many peers, or too many groups in it.
    Limit,
}

impl NodeMachine {
    pub(super) fn on_beacon(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        beacon: Result<Beacon, BeaconError>,
    ) {
        if !self.sends_beacons || self.is_ending {
            return;
        }
        let beacon = match beacon {
            Ok(beacon) => beacon,
            Err(error) => return self.counters.refuse_beacon(error),
        };
        if beacon.peer == self.id {
            return;
        }
        let mut address = from;
        address.set_port(beacon.port);
        match self.peers.get_mut(&beacon.peer) {
            Some(_) if beacon.is_leaving() => self.on_farewell(now, beacon.peer),
            // An older beacon that came late, or the next life of a peer whose last words are still on their way.
            Some(peer) if peer.leaves_by.is_some() => {}
            Some(peer) => {
                peer.liveness.hear(now);
                if let Some(heard) = peer.hear_at(now, address) {
                    self.on_new_place(now, beacon.peer, address, &heard);
                }
            }
            None if beacon.is_leaving() => {}
            None => {
                if !self.on_newcomer(now, beacon.peer, address.into()) {
                    return;
                }
                self.dial(beacon.peer);
                if let Some(peer) = self.peers.get_mut(&beacon.peer) {
                    peer.hear_at(now, address);
                    if self.replies.take(now) {
                        let beacon = self.beacon();
                        self.output(Output::Reply { beacon, to: from });
                    }
                }
            }
        }
    }

    /// A peer's beacon says that it leaves. What it said before comes over its connection, which the beacon may have overtaken,
    /// and which ends after that.
    fn on_farewell(&mut self, now: Timestamp, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.is_ready() || peer.inbound.is_none() {
            return self.exit(now, id, ExitReason::Left);
        }
        let by = *peer.leaves_by.get_or_insert(now.after(LAST_WORDS));
        self.check_by(by);
    }

    /// Hearsay makes a peer that is not ready, as a beacon does. It is no sign of life of anybody, and no reason to give up
    /// who is known to be at that place.
    pub(super) fn on_found(&mut self, now: Timestamp, id: PeerId, endpoint: Endpoint) {
        if id == self.id || self.is_own(&endpoint) || self.is_ending {
            return;
        }
        match self.peers.get_mut(&id) {
            Some(peer) => peer.add_endpoint(endpoint),
            None if self.places.contains_key(&endpoint) => {}
            None => {
                if self.on_newcomer(now, id, endpoint) {
                    self.dial_or_listen(now, id);
                }
            }
        }
    }

    /// Makes a peer of somebody who was heard of, not dialled yet, and says whether there is one now.
    fn on_newcomer(&mut self, now: Timestamp, id: PeerId, endpoint: Endpoint) -> bool {
        if self.is_own(&endpoint) {
            self.counters.beacons_of_our_place += 1;
            return false;
        }
        if self.is_full() || !self.newcomers.take(now) {
            self.counters.beacons_over_limit += 1;
            return false;
        }
        self.create(now, id, vec![endpoint]);
        true
    }

    /// Dials a peer of which no beacon was heard. Where we tell others a way round, such as a relay, those beside us tell it
    /// too; so first there is time for a beacon, which tells the straight way.
    fn dial_or_listen(&mut self, now: Timestamp, id: PeerId) {
        if !(self.is_advertised && self.sends_beacons) {
            return self.dial(id);
        }
        let until = now.after(self.interval.mul_f64(1.5));
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.outbound.state = State::Listening { until };
            self.check_by(until);
        }
    }

    /// Beacons of a known peer come from elsewhere: it moved, or it can be heard on two networks. The link tells which.
    fn on_new_place(&mut self, now: Timestamp, id: PeerId, address: SocketAddr, heard: &Heard) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.add_endpoint(address.into());
        if !heard.lost.is_empty() {
            let first = peer.endpoints[0].clone();
            peer.forget_endpoints(&heard.lost);
            if peer.endpoints[0] != first && self.places.get(&first) == Some(&id) {
                self.places.remove(&first);
                self.places.entry(peer.endpoints[0].clone()).or_insert(id);
            }
        }
        if matches!(peer.outbound.state, State::Listening { .. }) {
            peer.prefer_endpoint(address.into());
            return self.dial(id);
        }
        if heard.is_move && peer.is_ready() && matches!(peer.outbound.state, State::Open { .. }) {
            self.probe(now, id);
        }
    }

    /// Asks over the link; without an answer the link is made anew.
    pub(super) fn probe(&mut self, now: Timestamp, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.liveness.probe(now, ANSWER_WAIT) {
            let due = peer.liveness.due(&self.patience);
            self.check_by(due);
            self.ping(id, None);
        }
    }

    /// Whether there is no room for another peer that is not ready.
    pub(super) fn is_full(&self) -> bool {
        self.peers.len() >= self.limits.peers || self.not_ready >= self.limits.peers_not_ready
    }

    /// Makes a peer that is not ready, and its link. Whoever was at its place is gone.
    fn create(&mut self, now: Timestamp, id: PeerId, endpoints: Vec<Endpoint>) {
        let link = self.new_link();
        self.insert(now, id, endpoints, link);
        self.open_link(id);
    }

    /// Makes a peer that is not ready, with a link that is there and open.
    pub(super) fn create_on(
        &mut self,
        now: Timestamp,
        id: PeerId,
        endpoints: Vec<Endpoint>,
        link: super::OutboundLink,
    ) {
        self.insert(now, id, endpoints, link);
        self.outbound.insert(link, id);
        self.on_opened(now, link);
    }

    fn insert(&mut self, now: Timestamp, id: PeerId, endpoints: Vec<Endpoint>, link: super::OutboundLink) {
        if let Some(&other) = self.places.get(&endpoints[0])
            && other != id
        {
            self.exit(now, other, ExitReason::Replaced);
        }
        self.places.insert(endpoints[0].clone(), id);
        let peer = Peer::new(now, endpoints, link);
        self.check_by(peer.due(&self.patience));
        self.not_ready += 1;
        self.peers.insert(id, peer);
    }

    pub(super) fn on_hello(&mut self, now: Timestamp, link: InboundLink, sequence: u16, hello: Hello) {
        let Some(inbound) = self.inbound.get(&link) else { return };
        let (id, remote) = (inbound.peer, inbound.remote);
        let current = self.peers.get(&id).and_then(|peer| peer.inbound);
        if current.is_some_and(|current| link < current) {
            // It was opened before the one that counts, and was only slower.
            self.counters.messages_ignored += 1;
            return self.close_inbound(link);
        }
        let endpoints = match self.places_of(id, remote, sequence, &hello) {
            Ok(endpoints) => endpoints,
            Err(refusal) => {
                *match refusal {
                    Refusal::Sequence => &mut self.counters.hellos_out_of_sequence,
                    Refusal::NoPlace => &mut self.counters.hellos_without_place,
                    Refusal::OurPlace => &mut self.counters.hellos_of_our_place,
                    Refusal::Limit => &mut self.counters.hellos_over_limit,
                } += 1;
                if current == Some(link) {
                    self.exit(now, id, ExitReason::OutOfSequence);
                } else {
                    self.close_inbound(link);
                }
                return;
            }
        };
        match self.peers.get(&id).map(Peer::is_ready) {
            None if self.adopt_seed(now, id, &endpoints) => {}
            None => {
                self.create(now, id, endpoints);
                self.dial_or_listen(now, id);
            }
            Some(false) => self.meet(id, endpoints),
            Some(true) => self.meet_again(now, id, endpoints),
        }
        self.adopt(link);
        self.introduce(now, id, hello);
    }

    /// Where the sender of a HELLO can be reached, best first, unless the HELLO is not one to believe.
    fn places_of(
        &self,
        id: PeerId,
        remote: SocketAddr,
        sequence: u16,
        hello: &Hello,
    ) -> Result<Vec<Endpoint>, Refusal> {
        let known = self.peers.get(&id);
        let is_room = known.is_some() || self.peers.len() < self.limits.peers;
        if sequence != 1 {
            return Err(Refusal::Sequence);
        }
        if !is_room || hello.groups.len() > self.limits.groups_per_peer {
            return Err(Refusal::Limit);
        }
        let text = hello.endpoint.as_str().unwrap_or_default();
        let said = text.parse::<Endpoint>().ok();
        let said = said.map(|said| said.seen_from(remote));
        if said.as_ref().is_some_and(|said| self.is_own(said)) {
            return Err(Refusal::OurPlace);
        }
        let port = said
            .as_ref()
            .map(|said| said.port)
            .or_else(|| text.rsplit_once(':')?.1.parse().ok().filter(|port| *port != 0))
            .or_else(|| known.map(|peer| peer.endpoints[0].port));
        let said = said.filter(|said| is_reachable_from(said, remote));
        let seen = port.map(|port| {
            let mut seen = remote;
            seen.set_port(port);
            Endpoint::from(seen)
        });
        // A relay's host on this machine hands connections on to us: where they come from, nobody is.
        let is_handed_on = said.is_some()
            && (remote.ip().is_loopback() || self.homes.iter().any(|home| home.address == remote.ip()));
        let seen = seen.filter(|seen| !is_handed_on && !self.is_own(seen) && said.as_ref() != Some(seen));
        let places: Vec<Endpoint> = said.into_iter().chain(seen).collect();
        if places.is_empty() { Err(Refusal::NoPlace) } else { Ok(places) }
    }

    /// A peer that we wait for is there.
    fn meet(&mut self, id: PeerId, endpoints: Vec<Endpoint>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // Gossip has one address of each peer, and it may be of a family that leads nowhere from here.
        let family = |place: &Endpoint| place.socket_addr().map(|address| address.is_ipv4());
        let is_hearsay = peer.outbound.state == State::Dialling && peer.heard_at.is_none();
        let is_by_other_family =
            is_hearsay && family(peer.endpoint()) == family(&endpoints[0]).map(|is_ipv4| !is_ipv4);
        if is_by_other_family {
            peer.prefer_endpoint(endpoints[0].clone());
        }
        for endpoint in endpoints {
            peer.add_endpoint(endpoint);
        }
        if is_by_other_family || matches!(peer.outbound.state, State::Waiting { .. }) {
            self.dial(id);
        }
    }

    /// A ready peer starts anew. See the head of this file.
    fn meet_again(&mut self, now: Timestamp, id: PeerId, endpoints: Vec<Endpoint>) {
        self.end_stream(now, id, ExitReason::Replaced);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let is_elsewhere = !peer.endpoints.contains(&endpoints[0]);
        if is_elsewhere {
            peer.prefer_endpoint(endpoints[0].clone());
        }
        for endpoint in endpoints {
            peer.add_endpoint(endpoint);
        }
        match peer.outbound.state {
            State::Open { since } if now.since(since) < ECHO && !is_elsewhere => self.probe(now, id),
            State::Open { .. } => {
                self.replace_link(now, id);
                self.dial(id);
            }
            State::Listening { .. } => {}
            State::Dialling if !is_elsewhere => {}
            State::Dialling | State::Waiting { .. } => self.dial(id),
        }
    }

    /// Makes a peer ready with what it says, and tells the application.
    fn introduce(&mut self, now: Timestamp, id: PeerId, hello: Hello) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.is_ready() {
            self.not_ready -= 1;
        }
        peer.received = Sequence::new(peer.received.wraps_early());
        peer.received.advance();
        peer.liveness.hear_link(now);
        // Whoever said farewell was the life before this one.
        peer.leaves_by = None;
        let due = peer.liveness.due(&self.patience);
        peer.status = hello.status;
        let Hello { endpoint, groups, name, mut headers, status: _ } = hello;
        let is_hailer = headers.remove(&Text::from(KIND_HEADER)).is_some();
        let introduction = Introduction {
            name: name.clone(),
            headers: headers.clone(),
            endpoint: endpoint.clone(),
            is_hailer,
        };
        peer.introduction = Some(introduction);
        self.check_by(due);
        self.counters.entered += 1;
        self.event(Event::Enter { peer: id, name, headers, endpoint });
        for group in groups {
            self.enter_group(now, id, group);
        }
    }

    /// A peer entered a group. It is an event only when it was not in it: JOIN and LEAVE of a group alternate, whatever
    /// peers send twice (the Haskell tools do).
    pub(super) fn enter_group(&mut self, now: Timestamp, id: PeerId, group: Text) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.groups.contains(&group) {
            self.counters.groups_unchanged += 1;
            return;
        }
        if peer.groups.len() >= self.limits.groups_per_peer {
            self.counters.groups_over_limit += 1;
            return;
        }
        peer.groups.insert(group.clone());
        let name = peer.name();
        self.members.add(&group, id);
        self.event(Event::Join { peer: id, name, group: group.clone() });
        self.on_member_joined(now, id, &group);
    }

    /// A peer left a group.
    pub(super) fn leave_group(&mut self, now: Timestamp, id: PeerId, group: Text) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.groups.remove(&group) {
            let name = peer.name();
            self.members.remove(&group, id);
            self.event(Event::Leave { peer: id, name, group: group.clone() });
            self.on_member_left(now, id, &group);
        } else {
            self.counters.groups_unchanged += 1;
        }
    }

    /// Tells the application that a peer is gone, when it knew of it.
    fn end_stream(&mut self, now: Timestamp, id: PeerId, reason: ExitReason) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let is_ready = peer.is_ready();
        let name = peer.name();
        let groups = std::mem::take(&mut peer.groups);
        for group in &groups {
            self.members.remove(group, id);
        }
        if is_ready {
            self.counters.exit(reason);
            self.event(Event::Exit { peer: id, name, reason });
        }
        for group in &groups {
            self.on_member_left(now, id, group);
        }
    }

    /// Forgets a peer and closes its links.
    pub(super) fn exit(&mut self, now: Timestamp, id: PeerId, reason: ExitReason) {
        self.end_stream(now, id, reason);
        self.forget_pings(id);
        let Some(peer) = self.peers.remove(&id) else { return };
        self.not_ready -= usize::from(!peer.is_ready());
        if self.places.get(&peer.endpoints[0]) == Some(&id) {
            self.places.remove(&peer.endpoints[0]);
        }
        if self.outbound.remove(&peer.outbound.link).is_some() {
            self.output(Output::Close(peer.outbound.link));
        }
        if let Some(link) = peer.inbound {
            self.close_inbound(link);
        }
    }
}

/// Whether an endpoint that a peer tells can mean the peer, for one that sees it at `remote`.
fn is_reachable_from(endpoint: &Endpoint, remote: SocketAddr) -> bool {
    endpoint.socket_addr().is_none_or(|address| {
        let ip = address.ip();
        !ip.is_unspecified() && !ip.is_multicast() && (!ip.is_loopback() || remote.ip().is_loopback())
    })
}
