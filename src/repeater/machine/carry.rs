//! The beacons: what was heard here, what is told here, and the stand-ins of nodes elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{
    BELIEVED, DEFERENCE, Deferred, EXPIRED, EXPIRED_EARLY, Event, INTRODUCED_AGAIN, INTRODUCED_TIMES,
    INTRODUCTIONS_MAX, NODES_MAX, Output, RIVAL, RemotePlace, RepeaterMachine, SAME, SWEEP, Subscriber,
};
use crate::Timestamp;
use crate::repeater::packet::{Packet, RawBeacon};
use crate::zre::PeerId;
use crate::zre::beacon::unrepeated;

/// A node on a LAN here.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) lan: usize,
    pub(super) address: IpAddr,
    pub(super) beacon: RawBeacon,
    heard: Timestamp,
    is_confirmed: bool,
    published: Timestamp,
}

/// A node elsewhere.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) packet: Packet,
    repeater: SocketAddr,
    heard: Timestamp,
    is_confirmed: bool,
    /// When each LAN had heard of it last, from us or from another repeater; none when it has to hear at once.
    told: Vec<Option<Timestamp>>,
    pub(super) stand_in: Option<StandIn>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct StandIn {
    pub(super) port: u16,
    pub(super) is_there: bool,
}

fn is_expired(now: Timestamp, heard: Timestamp, beacon: &RawBeacon, is_confirmed: bool) -> bool {
    let patience = if is_confirmed && !beacon.is_leaving() { EXPIRED } else { EXPIRED_EARLY };
    now.since(heard) >= patience
}

/// Those whom to tell somebody of who has just come: of a node that died without a farewell nobody should hear again, least
/// of all when another one is at its place by now. And those who have said farewell.
fn there(
    now: Timestamp,
    nodes: impl Iterator<Item = (PeerId, SocketAddr, Timestamp, bool)>,
) -> (Vec<PeerId>, Vec<PeerId>) {
    let mut latest = BTreeMap::<SocketAddr, (Timestamp, PeerId)>::new();
    let mut gone = Vec::new();
    for (peer, place, heard, is_leaving) in nodes {
        if is_leaving {
            gone.push(peer);
        } else if now.since(heard) < BELIEVED {
            let known = latest.entry(place).or_insert((heard, peer));
            *known = (*known).max((heard, peer));
        }
    }
    let mut there: Vec<PeerId> = latest.into_values().map(|(_, peer)| peer).collect();
    there.sort_unstable();
    (there, gone)
}

impl RepeaterMachine {
    pub(super) fn hear(&mut self, now: Timestamp, from: SocketAddr, datagram: &[u8]) {
        self.counters.heard += 1;
        let Some(lan) = self.lans.iter().position(|lan| lan.lan.contains(from.ip())) else {
            // A neighbour on a network of this machine that is not served, or a guest.
            self.counters.filtered += 1;
            return;
        };
        if let Some((beacon, origin)) = unrepeated(datagram) {
            if let Ok(beacon) = RawBeacon::decode(beacon) {
                self.hear_repeated(now, lan, from.ip(), beacon, Some(origin));
            }
            return;
        }
        let Ok(beacon) = RawBeacon::decode(datagram) else {
            self.counters.datagrams_malformed += 1;
            return;
        };
        if self.config.stand_in_ports.contains(&beacon.port()) {
            return self.hear_repeated(now, lan, from.ip(), beacon, None);
        }
        if !self.config.publish.takes(from.ip()) {
            self.counters.filtered += 1;
            return;
        }
        let peer = beacon.peer();
        let is_new = match self.locals.get_mut(&peer) {
            None => true,
            Some(local) => {
                let is_same = local.beacon == beacon && local.address == from.ip();
                local.is_confirmed |= is_same && now.since(local.heard) >= SAME;
                local.heard = now;
                if is_same && now.since(local.published) < SAME {
                    self.counters.duplicates += 1;
                    return;
                }
                !is_same
            }
        };
        if is_new {
            // A stand-in's farewell, or that of a node of which nobody was told.
            if beacon.is_leaving() && (!self.locals.contains_key(&peer) || self.remotes.contains_key(&peer)) {
                return;
            }
            let has_room = self.locals.contains_key(&peer) || self.locals.len() < NODES_MAX;
            if !has_room || !self.newcomers.take(now) {
                self.counters.over_limit += 1;
                return;
            }
            self.settle(now, lan, from, beacon);
        }
        if let Some(local) = self.locals.get_mut(&peer) {
            local.published = now;
        }
        let packet = Packet { beacon, origin: self.config.advertise.unwrap_or(from.ip()) };
        self.counters.published += 1;
        self.output(Output::Publish { to: None, packet: packet.encode(), is_news: is_new });
        // Our other LANs are as far from this one as other repeaters' are. Those with stock nodes, which have stand-ins,
        // must not hear this format.
        if self.is_standing_in() {
            return;
        }
        let bridged = Packet { beacon, origin: from.ip() }.encode();
        for other in (0..self.lans.len()).filter(|other| *other != lan) {
            if self.lans[other].told.take(now) {
                self.counters.told += 1;
                self.output(Output::Tell { lan: other, to: None, datagram: bridged.clone() });
            }
        }
    }

    /// A node is here, or here again at another place, or leaves.
    fn settle(&mut self, now: Timestamp, lan: usize, from: SocketAddr, beacon: RawBeacon) {
        let peer = beacon.peer();
        if self.remotes.contains_key(&peer) {
            self.forget_remote(peer);
        }
        let local =
            Local { lan, address: from.ip(), beacon, heard: now, is_confirmed: false, published: now };
        let known = self.locals.insert(peer, local);
        if beacon.is_leaving() {
            return self.event(Event::NodeGone { peer });
        }
        self.event(Event::NodeHere { peer, inbox: SocketAddr::new(from.ip(), beacon.port()) });
        if known.is_none() {
            self.introduce(now, peer, INTRODUCED_TIMES);
        }
    }

    /// Tells a node that is new here of all nodes elsewhere, so that it need not wait for their next beacons.
    fn introduce(&mut self, now: Timestamp, newcomer: PeerId, times: u8) {
        let Some(local) = self.locals.get(&newcomer).filter(|local| !local.beacon.is_leaving()) else {
            return;
        };
        let (lan, to) = (local.lan, SocketAddr::new(local.address, self.config.port));
        if times > 1 && self.introductions.len() < INTRODUCTIONS_MAX {
            self.introductions.push_back((now.after(INTRODUCED_AGAIN), newcomer, times - 1));
        }
        let remotes = self.remotes.iter().map(|(peer, remote)| {
            let beacon = &remote.packet.beacon;
            // Behind a NAT several nodes may seem to be at one place, and stand-ins tell them apart.
            let place = match remote.stand_in {
                Some(stand_in) => SocketAddr::from((self.lans[lan].lan.address, stand_in.port)),
                None => SocketAddr::new(remote.packet.origin, beacon.port()),
            };
            (*peer, place, remote.heard, beacon.is_leaving())
        });
        for peer in there(now, remotes).0 {
            let Some(datagram) = self.datagram(peer) else { continue };
            if !self.lans[lan].introduced.take(now) {
                self.counters.over_limit += 1;
                return;
            }
            self.output(Output::Tell { lan, to: Some(to), datagram });
        }
    }

    /// Another repeater, or we ourselves, told on this LAN of a node elsewhere.
    fn hear_repeated(
        &mut self,
        now: Timestamp,
        lan: usize,
        from: IpAddr,
        beacon: RawBeacon,
        origin: Option<IpAddr>,
    ) {
        self.counters.repeated_heard += 1;
        let state = &mut self.lans[lan];
        let own = state.lan.address;
        if from == own {
            return;
        }
        if from < own {
            state.rival = now.after(RIVAL);
        }
        let is_standing_in = self.is_standing_in();
        if let Some(remote) = self.remotes.get_mut(&beacon.peer()) {
            let is_same = match origin {
                Some(origin) => origin == remote.packet.origin && beacon == remote.packet.beacon,
                None => is_standing_in,
            };
            // The other one spoke for us.
            if is_same {
                remote.told[lan] = Some(now);
            }
        }
    }

    pub(super) fn take(&mut self, now: Timestamp, by: SocketAddr, message: &[Bytes]) {
        self.counters.received += 1;
        let [frame] = message else {
            self.counters.packets_malformed += 1;
            return;
        };
        let Ok(packet) = Packet::decode(frame) else {
            self.counters.packets_malformed += 1;
            return;
        };
        if !self.config.accept.takes(packet.origin) {
            self.counters.filtered += 1;
            return;
        }
        let peer = packet.beacon.peer();
        let is_heard_here = self.locals.get(&peer).is_some_and(|local| now.since(local.heard) < BELIEVED);
        if is_heard_here || self.is_here(packet.origin) {
            self.counters.contradicted += 1;
            return;
        }
        if self.locals.remove(&peer).is_some_and(|local| !local.beacon.is_leaving()) {
            self.event(Event::NodeGone { peer });
        }
        let is_new = match self.remotes.get_mut(&peer) {
            None => true,
            Some(remote) => {
                let is_same = remote.packet == packet;
                let is_elsewhere = remote.packet.origin != packet.origin;
                if is_elsewhere && now.since(remote.heard) < BELIEVED && !remote.packet.beacon.is_leaving() {
                    self.counters.contradicted += 1;
                    return;
                }
                remote.is_confirmed |= is_same && now.since(remote.heard) >= SAME;
                remote.heard = now;
                !is_same
            }
        };
        if is_new && !self.meet(now, by, packet) {
            return;
        }
        self.ensure_stand_in(peer);
        for lan in 0..self.lans.len() {
            self.consider(now, lan, peer);
        }
        if packet.beacon.is_leaving() {
            self.end_stand_in(peer);
        }
    }

    /// Asks for a stand-in where one is due and not there.
    fn ensure_stand_in(&mut self, peer: PeerId) {
        let Some(remote) = self.remotes.get(&peer).filter(|_| self.is_standing_in()) else { return };
        let is_due = remote.is_confirmed || !self.may_be_here(remote.packet.origin);
        if is_due && remote.stand_in.is_none() && !remote.packet.beacon.is_leaving() {
            self.stand_in(peer);
        }
    }

    /// Whether an address is one of ours for sure: what we would advertise ourselves.
    fn is_here(&self, origin: IpAddr) -> bool {
        self.config.advertise == Some(origin) || origin.is_loopback()
    }

    /// Whether an address may be a neighbour's, of whom a repeater beside us told before we have heard of it; or that of a
    /// node far away with the same network, as on Docker's overlays. To tell of a neighbour at its own address does no
    /// harm. To stand in for it would: so there a second beacon is waited for, by which time we have heard it ourselves.
    fn may_be_here(&self, origin: IpAddr) -> bool {
        self.lans.iter().any(|lan| lan.lan.contains(origin))
    }

    /// A node elsewhere is new, or at another place, or leaves.
    fn meet(&mut self, now: Timestamp, by: SocketAddr, packet: Packet) -> bool {
        let peer = packet.beacon.peer();
        let known = self.remotes.get(&peer);
        let has_room = known.is_some() || self.remotes.len() < NODES_MAX;
        if !has_room || !self.newcomers.take(now) {
            self.counters.over_limit += 1;
            return false;
        }
        let stand_in = known.and_then(|remote| remote.stand_in);
        let remote = Remote {
            packet,
            repeater: by,
            heard: now,
            is_confirmed: false,
            told: vec![None; self.lans.len()],
            stand_in,
        };
        self.remotes.insert(peer, remote);
        if packet.beacon.is_leaving() {
            self.event(Event::NodeGone { peer });
            return true;
        }
        let inbox = SocketAddr::new(packet.origin, packet.beacon.port());
        self.event(Event::NodeElsewhere { peer, inbox, repeater: by });
        if stand_in.is_some() {
            self.stand_in(peer);
        }
        true
    }

    /// Asks for a stand-in, or tells the one that there is where its node is now.
    fn stand_in(&mut self, peer: PeerId) {
        let free = self.free_port();
        let Some(remote) = self.remotes.get_mut(&peer) else { return };
        let Some(port) = remote.stand_in.map(|stand_in| stand_in.port).or(free) else {
            self.counters.over_limit += 1;
            return;
        };
        let (packet, repeater) = (remote.packet, remote.repeater);
        remote.stand_in.get_or_insert(StandIn { port, is_there: false });
        if self.ports.insert(port) {
            self.next_port = port.wrapping_add(1);
        }
        let inbox = SocketAddr::new(packet.origin, packet.beacon.port());
        self.output(Output::StandIn { peer, port, place: RemotePlace { inbox, repeater } });
    }

    fn free_port(&self) -> Option<u16> {
        let (first, last) = (*self.config.stand_in_ports.start(), *self.config.stand_in_ports.end());
        let from = if (first..=last).contains(&self.next_port) { self.next_port } else { first };
        (from..=last).chain(first..from).find(|port| !self.ports.contains(port))
    }

    pub(super) fn stands_in(&mut self, now: Timestamp, peer: PeerId, port: u16, is_there: bool) {
        let remote = self.remotes.get_mut(&peer);
        let Some(remote) = remote.filter(|remote| remote.stand_in.is_some_and(|own| own.port == port)) else {
            return;
        };
        if is_there {
            remote.stand_in = Some(StandIn { port, is_there });
            for lan in 0..self.lans.len() {
                self.consider(now, lan, peer);
            }
        } else {
            // Another program has the port, and keeps it: it stays taken.
            remote.stand_in = None;
            self.stand_in(peer);
        }
    }

    fn end_stand_in(&mut self, peer: PeerId) {
        let stand_in = self.remotes.get_mut(&peer).and_then(|remote| remote.stand_in.take());
        if let Some(stand_in) = stand_in {
            self.ports.remove(&stand_in.port);
            self.output(Output::EndStandIn(peer));
        }
    }

    /// What is told of a node elsewhere; `None` while its stand-in is not there.
    fn datagram(&self, peer: PeerId) -> Option<Bytes> {
        let remote = self.remotes.get(&peer)?;
        if !self.is_standing_in() {
            return Some(remote.packet.encode());
        }
        let beacon = remote.packet.beacon;
        let port = match remote.stand_in {
            _ if beacon.is_leaving() => 0,
            Some(StandIn { port, is_there: true }) => port,
            _ => return None,
        };
        Some(Bytes::copy_from_slice(beacon.with_port(port).as_bytes()))
    }

    /// Tells a LAN of a node elsewhere, unless it was told just now: at once, or after those that go first.
    fn consider(&mut self, now: Timestamp, lan: usize, peer: PeerId) {
        let Some(remote) = self.remotes.get(&peer) else { return };
        if remote.told[lan].is_some_and(|told| now.since(told) < SAME) {
            self.counters.duplicates += 1;
        } else if now < self.lans[lan].rival {
            self.deferred.push_back(Deferred { at: now.after(DEFERENCE), lan, peer });
        } else {
            self.tell(now, lan, peer);
        }
    }

    fn tell(&mut self, now: Timestamp, lan: usize, peer: PeerId) {
        let Some(datagram) = self.datagram(peer) else { return };
        if !self.lans[lan].told.take(now) {
            self.counters.over_limit += 1;
            return;
        }
        if let Some(remote) = self.remotes.get_mut(&peer) {
            remote.told[lan] = Some(now);
        }
        self.counters.told += 1;
        self.output(Output::Tell { lan, to: None, datagram });
    }

    /// Gives a new subscriber what is known here, so that it need not wait for the next beacons: the last one of each
    /// node, and the farewells of those that have just left, which may have gone out while it was not connected.
    pub(super) fn greet(&mut self, now: Timestamp, subscriber: Subscriber) {
        let locals = self.locals.iter().map(|(peer, local)| {
            let place = SocketAddr::new(local.address, local.beacon.port());
            (*peer, place, local.heard, local.beacon.is_leaving())
        });
        let (there, gone) = there(now, locals);
        for peer in gone.into_iter().chain(there) {
            let local = &self.locals[&peer];
            if !self.greetings.take(now) {
                self.counters.over_limit += 1;
                return;
            }
            let origin = self.config.advertise.unwrap_or(local.address);
            let packet = Packet { beacon: local.beacon, origin }.encode();
            self.outputs.push_back(Output::Publish { to: Some(subscriber), packet, is_news: true });
            self.counters.greeted += 1;
        }
    }

    fn forget_remote(&mut self, peer: PeerId) {
        self.end_stand_in(peer);
        self.remotes.remove(&peer);
    }

    /// Tells what waited long enough, and forgets who was silent for long.
    pub(super) fn keep_time(&mut self, now: Timestamp) {
        while let Some(&Deferred { at, lan, peer }) = self.deferred.front()
            && at <= now
        {
            self.deferred.pop_front();
            let Some(remote) = self.remotes.get(&peer) else { continue };
            if remote.told[lan].is_some_and(|told| now.since(told) < SAME) {
                self.counters.duplicates += 1;
            } else {
                self.tell(now, lan, peer);
            }
        }
        while let Some(&(at, peer, times)) = self.introductions.front()
            && at <= now
        {
            self.introductions.pop_front();
            self.introduce(now, peer, times);
        }
        if now < self.sweep {
            return;
        }
        self.sweep = now.after(SWEEP);
        let gone = |locals: &Local| is_expired(now, locals.heard, &locals.beacon, locals.is_confirmed);
        let locals: Vec<_> =
            self.locals.iter().filter(|(_, local)| gone(local)).map(|(peer, _)| *peer).collect();
        for peer in locals {
            if let Some(local) = self.locals.remove(&peer).filter(|local| !local.beacon.is_leaving()) {
                self.event(Event::NodeGone { peer: local.beacon.peer() });
            }
        }
        let gone =
            |remote: &Remote| is_expired(now, remote.heard, &remote.packet.beacon, remote.is_confirmed);
        let remotes: Vec<_> =
            self.remotes.iter().filter(|(_, remote)| gone(remote)).map(|(peer, _)| *peer).collect();
        for peer in remotes {
            let was_there = self.remotes.get(&peer).is_some_and(|remote| !remote.packet.beacon.is_leaving());
            self.forget_remote(peer);
            if was_there {
                self.event(Event::NodeGone { peer });
            }
        }
    }
}
