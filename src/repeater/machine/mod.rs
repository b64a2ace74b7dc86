//! What a repeater decides: which beacons it carries, where to, and which repeaters it listens to.
//!
//! [`RepeaterMachine`] is pure. This file has what goes in and out, and the other repeaters; `carry` has the beacons.
//!
//! # No loops, no storms
//!
//! Five rules, each of which is enough against one kind of loop:
//!
//! * What was heard on a LAN is published; what was published to us is told on the LANs, and never published again.
//! * What was told by a repeater is recognised on a LAN, by the text behind it or by its port, and never carried.
//! * A node is here or elsewhere, not both: while its own beacons are heard here, nobody's word that it is elsewhere
//!   counts; and while one place elsewhere is believed, another one has to wait until that is silent.
//! * The same beacon (node, port, origin) is told once an interval, however many repeaters bring it.
//! * Where several repeaters serve a LAN, the one with the lowest address speaks at once, and the others a moment later
//!   and only if it did not.
//!
//! And there is a budget for newcomers, one for what is told on each LAN, and an end to every table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use super::config::{Announce, Config};
use crate::Timestamp;
use crate::counters::counters;
use crate::machine::Machine;
use crate::zre::{Budget, PeerId};

mod carry;
#[cfg(test)]
mod tests;

use carry::{Local, Remote};

/// A LAN that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Our address on it.
    pub address: Ipv4Addr,
    /// The length of its prefix.
    pub prefix: u8,
}

impl Lan {
    /// Whether an address is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let host_bits = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        (self.address.to_bits() ^ address.to_bits()) & !host_bits == 0
    }
}

/// Who gets what is published here. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscriber(pub u64);

/// What can happen to a repeater.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timeout,
    /// A datagram came to the beacon port.
    Heard {
        /// Who sent it.
        from: SocketAddr,
        /// What it is.
        datagram: Bytes,
    },
    /// Another repeater has published something.
    Published {
        /// The repeater.
        by: SocketAddr,
        /// The frames of the message.
        message: Vec<Bytes>,
    },
    /// Somebody has subscribed to what is published here.
    Subscribed(Subscriber),
    /// A registry has answered: these are the repeaters that it knows, all of them.
    Found {
        /// The index of the registry in the configuration.
        registry: usize,
        /// The repeaters, perhaps with ourselves among them.
        repeaters: BTreeSet<SocketAddr>,
    },
    /// A stand-in was asked for, and it listens now, or can't.
    StandsIn {
        /// For whom.
        peer: PeerId,
        /// At which port.
        port: u16,
        /// Whether it listens.
        is_there: bool,
    },
}

/// What a repeater wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Publish this: to one subscriber, or to all.
    Publish {
        /// To whom.
        to: Option<Subscriber>,
        /// The only frame of the message.
        packet: Bytes,
        /// It is not what was published before, and nobody should have to wait for it.
        is_news: bool,
    },
    /// Tell this on a LAN: to everybody, or to one address.
    Tell {
        /// The index of the LAN.
        lan: usize,
        /// To whom.
        to: Option<SocketAddr>,
        /// The datagram.
        datagram: Bytes,
    },
    /// Subscribe to what this repeater publishes, from now on.
    Link(SocketAddr),
    /// Not any more.
    Unlink(SocketAddr),
    /// Listen at this port of each LAN for connections to this node, or let them lead to another place from now on.
    StandIn {
        /// The node.
        peer: PeerId,
        /// The port.
        port: u16,
        /// Where the node is.
        place: RemotePlace,
    },
    /// The node is gone: listen no more.
    EndStandIn(PeerId),
    /// Something for the log and the user.
    Event(Event),
}

/// Where a node elsewhere is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemotePlace {
    /// Its inbox.
    pub inbox: SocketAddr,
    /// The repeater that told of it.
    pub repeater: SocketAddr,
}

/// What a repeater tells its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A repeater was found; what it publishes is listened to from now on.
    RepeaterFound(SocketAddr),
    /// No registry knows the repeater any more.
    RepeaterGone(SocketAddr),
    /// A node on a LAN here is told of elsewhere from now on.
    NodeHere {
        /// The node.
        peer: PeerId,
        /// Its inbox.
        inbox: SocketAddr,
    },
    /// A node elsewhere is told of here from now on.
    NodeElsewhere {
        /// The node.
        peer: PeerId,
        /// Its inbox.
        inbox: SocketAddr,
        /// The repeater that told of it.
        repeater: SocketAddr,
    },
    /// A node has left, or was silent for long, or is somewhere else.
    NodeGone {
        /// The node.
        peer: PeerId,
    },
}

counters! {
    /// What a repeater has counted since it started.
    Counters {
        /// Beacons heard on the LANs, those of repeaters and what is not carried for other reasons included.
        heard,
        /// Datagrams on the beacon port that are no beacons.
        datagrams_malformed,
        /// Beacons published, each once however many subscribers there are.
        published,
        /// Beacons given to new subscribers alone: what is known when they come.
        greeted,
        /// Packets of other repeaters.
        received,
        /// Messages of other repeaters that are no packets.
        packets_malformed,
        /// Beacons told on LANs, each LAN counting.
        told,
        /// Beacons that a LAN had heard in the same interval already.
        duplicates,
        /// What repeaters told on our LANs; it is never carried.
        repeated_heard,
        /// Packets about nodes that are here, or that another place is believed of.
        contradicted,
        /// Beacons that a filter of the configuration held back.
        filtered,
        /// Beacons held back by a budget or a full table.
        over_limit,
        /// Nodes here, now.
        nodes_here,
        /// Nodes elsewhere, now.
        nodes_elsewhere,
    }
}

/// The most nodes here, and the most elsewhere. Each costs about 200 bytes.
const NODES_MAX: usize = 16_384;
/// Nodes that were not heard of before and may come in a second, and at once: fifty sites of fifty nodes may start
/// together, and a mad machine must not fill the tables of everybody.
const NEWCOMERS_PER_SECOND: u32 = 200;
const NEWCOMERS_BURST: usize = 2500;
/// What is told on a LAN in a second, and at once: a beacon of each of so many nodes takes 0.4 MB/s.
const TOLD_PER_SECOND: u32 = 5000;
const TOLD_BURST: usize = 5000;
/// What new subscribers get of what is known here in a second, and at once, all together: twenty repeaters and 250 nodes.
/// Whoever subscribes again and again does not get more.
const GREETED_PER_SECOND: u32 = 5000;
const GREETED_BURST: usize = 5000;
/// How long after its first words a node that is new is told once more of all nodes elsewhere, and then again: some of it
/// may be lost.
const INTRODUCED_AGAIN: Duration = Duration::from_millis(200);
/// How often it is told.
const INTRODUCED_TIMES: u8 = 3;
/// Nodes that wait for that, at most.
const INTRODUCTIONS_MAX: usize = 1024;
/// Repeaters that are listened to, at most. A full mesh of more would carry each beacon too often.
const REPEATERS_MAX: usize = 256;
/// How long the same beacon is not told again. Less than the shortest interval between beacons that is usual (the Haskell
/// tools' 0.9 s) by more than what a network delays them unevenly.
const SAME: Duration = Duration::from_millis(700);
/// How long a repeater waits for one with a lower address on the same LAN to speak.
const DEFERENCE: Duration = Duration::from_millis(50);
/// For how long one that spoke is waited for.
const RIVAL: Duration = Duration::from_secs(5);
/// A node that was silent for so long is forgotten, as zyre does.
const EXPIRED: Duration = Duration::from_secs(30);
/// A node that was heard of once only is forgotten earlier, and so is one that has left.
const EXPIRED_EARLY: Duration = Duration::from_secs(5);
/// How long one place of a node elsewhere is believed when others are told, and how long after its last beacon a node is
/// told of to those who come.
const BELIEVED: Duration = Duration::from_secs(4);
/// How often the tables are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// A repeater's decisions. See [`Machine`] for how it is driven.
#[derive(Debug)]
pub struct RepeaterMachine {
    config: Config,
    lans: Vec<LanState>,
    locals: BTreeMap<PeerId, Local>,
    remotes: BTreeMap<PeerId, Remote>,
    /// The repeaters that each registry knows.
    found: BTreeMap<usize, BTreeSet<SocketAddr>>,
    links: BTreeSet<SocketAddr>,
    newcomers: Budget,
    greetings: Budget,
    /// What waits for a repeater with a lower address, oldest first.
    deferred: VecDeque<Deferred>,
    /// New nodes here that are to be told of those elsewhere again, and how often, in the order of time.
    introductions: VecDeque<(Timestamp, PeerId, u8)>,
    /// Ports of stand-ins that are taken, by nodes or by other programs.
    ports: BTreeSet<u16>,
    /// Where the search for a free one goes on, so that one that was just given up is not taken at once.
    next_port: u16,
    sweep: Timestamp,
    outputs: VecDeque<Output>,
    counters: Counters,
}

#[derive(Debug)]
struct LanState {
    lan: Lan,
    told: Budget,
    /// What is told to single nodes: so much that it must not take the place of what is told to all.
    introduced: Budget,
    /// Until when a repeater with a lower address is expected to speak first.
    rival: Timestamp,
}

#[derive(Debug)]
struct Deferred {
    at: Timestamp,
    lan: usize,
    peer: PeerId,
}

impl RepeaterMachine {
    /// A repeater on these LANs that starts at `now`.
    pub fn new(config: Config, lans: Vec<Lan>, now: Timestamp) -> Self {
        let budget = || Budget::new(TOLD_PER_SECOND, TOLD_BURST, now);
        Self {
            next_port: *config.stand_in_ports.start(),
            config,
            lans: lans
                .into_iter()
                .map(|lan| LanState { lan, told: budget(), introduced: budget(), rival: Timestamp::ZERO })
                .collect(),
            locals: BTreeMap::new(),
            remotes: BTreeMap::new(),
            found: BTreeMap::new(),
            links: BTreeSet::new(),
            newcomers: Budget::new(NEWCOMERS_PER_SECOND, NEWCOMERS_BURST, now),
            greetings: Budget::new(GREETED_PER_SECOND, GREETED_BURST, now),
            deferred: VecDeque::new(),
            introductions: VecDeque::new(),
            ports: BTreeSet::new(),
            sweep: now.after(SWEEP),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let here = self.locals.values().filter(|local| !local.beacon.is_leaving());
        let elsewhere = self.remotes.values().filter(|remote| !remote.packet.beacon.is_leaving());
        Counters {
            nodes_here: here.count() as u64,
            nodes_elsewhere: elsewhere.count() as u64,
            ..self.counters
        }
    }

    /// The inbox of a node here.
    pub fn inbox_of(&self, peer: PeerId) -> Option<SocketAddr> {
        let local = self.locals.get(&peer).filter(|local| !local.beacon.is_leaving())?;
        Some(SocketAddr::new(local.address, local.beacon.port()))
    }

    /// The LANs that are served.
    pub fn lans(&self) -> impl Iterator<Item = Lan> {
        self.lans.iter().map(|lan| lan.lan)
    }

    /// Whether a node here has this address.
    pub fn is_neighbour(&self, address: IpAddr) -> bool {
        self.locals.values().any(|local| local.address == address)
    }

    /// Where a node elsewhere is reached from the LAN of a node here: the stand-in that listens there.
    pub fn stand_in_of(&self, peer: PeerId, for_whom: PeerId) -> Option<SocketAddr> {
        let port = self.remotes.get(&peer)?.stand_in.filter(|stand_in| stand_in.is_there)?.port;
        let lan = self.locals.get(&for_whom)?.lan;
        Some(SocketAddr::from((self.lans[lan].lan.address, port)))
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn event(&mut self, event: Event) {
        self.output(Output::Event(event));
    }

    /// Compares the repeaters that there are to those that are listened to.
    fn find(&mut self, registry: usize, repeaters: BTreeSet<SocketAddr>) {
        self.found.insert(registry, repeaters);
        let is_wanted = |place: &SocketAddr| {
            let is_self = place.port() == self.config.publish_port
                && (self.lans.iter().any(|lan| lan.lan.address == place.ip())
                    || self.config.advertise == Some(place.ip()));
            let is_place = place.port() != 0 && !place.ip().is_unspecified() && !place.ip().is_multicast();
            is_place && !is_self && !self.config.dont_ip.contains(&place.ip())
        };
        let all: BTreeSet<_> = self.found.values().flatten().copied().filter(is_wanted).collect();
        // Those that are known stay when there are too many.
        let mut links: BTreeSet<_> = self.links.intersection(&all).copied().collect();
        for place in all {
            if links.len() < REPEATERS_MAX {
                links.insert(place);
            }
        }
        let old = std::mem::replace(&mut self.links, links);
        for gone in old.difference(&self.links.clone()) {
            self.output(Output::Unlink(*gone));
            self.event(Event::RepeaterGone(*gone));
        }
        for new in self.links.clone().difference(&old) {
            self.output(Output::Link(*new));
            self.event(Event::RepeaterFound(*new));
        }
    }

    fn is_standing_in(&self) -> bool {
        self.config.announce == Announce::StandIn
    }
}

impl Machine for RepeaterMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Heard { from, datagram } => self.hear(now, from, &datagram),
            Input::Published { by, message } => self.take(now, by, &message),
            Input::Subscribed(subscriber) => self.greet(now, subscriber),
            Input::Found { registry, repeaters } => self.find(registry, repeaters),
            Input::StandsIn { peer, port, is_there } => self.stands_in(now, peer, port, is_there),
        }
        self.keep_time(now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let deferred = self.deferred.front().map_or(Timestamp::NEVER, |deferred| deferred.at);
        let introduction = self.introductions.front().map_or(Timestamp::NEVER, |(at, ..)| *at);
        let has_nodes = !self.locals.is_empty() || !self.remotes.is_empty();
        let sweep = if has_nodes { self.sweep } else { Timestamp::NEVER };
        Some(deferred.min(introduction).min(sweep)).filter(|deadline| *deadline != Timestamp::NEVER)
    }
}
