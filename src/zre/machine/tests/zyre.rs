//! zyre 2, as far as its peers can tell: what its sources and captures show of how it greets, counts and gives up.
//!
//! Written from zyre's behaviour and not from ours, so that pairs of the two are a test. What matters here: it answers
//! every HELLO of a ready peer with EXIT, a fresh connection and HELLO; beacons of known peers mean nothing to it; it
//! forgets peers without closing their connections to it; and libzmq connects again below it, without HELLO.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

struct Known {
    is_ready: bool,
    link: OutboundLink,
    attempt: u32,
    is_down: bool,
    endpoint: Endpoint,
    sent: u16,
    received: u16,
    heard: Timestamp,
    groups: BTreeSet<Text>,
}

pub(super) struct Zyre {
    id: PeerId,
    endpoint: Endpoint,
    groups: Vec<Text>,
    peers: BTreeMap<PeerId, Known>,
    links: BTreeMap<InboundLink, PeerId>,
    last_link: u64,
    next_beacon: Timestamp,
    next_reap: Timestamp,
    outputs: VecDeque<Output>,
    /// Groups that it stands in.
    pub(super) contested: BTreeSet<Text>,
    elections: BTreeMap<Text, Count>,
}

/// zyre's election of a group: an echo algorithm that counts what it hears, whoever said it.
#[derive(Default)]
struct Count {
    caw: Option<PeerId>,
    father: Option<PeerId>,
    elects: usize,
    leaders: usize,
    leader: Option<PeerId>,
}

impl Zyre {
    pub(super) fn new(id: PeerId, endpoint: Endpoint, groups: Vec<Text>) -> Self {
        Self {
            id,
            endpoint,
            groups,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            last_link: 0,
            next_beacon: Timestamp::ZERO,
            next_reap: Timestamp::ZERO,
            outputs: VecDeque::new(),
            contested: BTreeSet::new(),
            elections: BTreeMap::new(),
        }
    }

    pub(super) fn ready(&self) -> Vec<PeerId> {
        self.peers.iter().filter(|(_, peer)| peer.is_ready).map(|(id, _)| *id).collect()
    }

    pub(super) fn groups_of(&self, peer: PeerId) -> Vec<Text> {
        self.peers[&peer].groups.iter().cloned().collect()
    }

    pub(super) fn groups(&self) -> Vec<Text> {
        self.groups.clone()
    }

    /// The link that a peer's messages come on, and the number of its next message.
    pub(super) fn stream_of(&self, peer: PeerId) -> Option<(InboundLink, u16)> {
        let link = self.links.iter().rfind(|(_, id)| **id == peer)?.0;
        Some((*link, self.peers.get(&peer)?.received.wrapping_add(1)))
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn send(&mut self, id: PeerId, body: Body) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.sent = peer.sent.wrapping_add(1);
        let frames = Message { sequence: peer.sent, body }.encode().unwrap();
        self.outputs.push_back(Output::Send { link: peer.link, frames });
    }

    fn require(&mut self, now: Timestamp, id: PeerId, endpoint: Endpoint) {
        if self.peers.contains_key(&id) {
            return;
        }
        self.last_link += 1;
        let link = OutboundLink::from_number(self.last_link);
        let known = Known {
            is_ready: false,
            link,
            attempt: 1,
            is_down: false,
            endpoint: endpoint.clone(),
            sent: 0,
            received: 0,
            heard: now,
            groups: BTreeSet::new(),
        };
        self.peers.insert(id, known);
        self.outputs.push_back(Output::Open { link, peer: id });
        let hello = Hello {
            endpoint: self.endpoint.to_string().into(),
            groups: self.groups.clone(),
            status: self.groups.len() as u8,
            name: "zyre".into(),
            headers: Headers::new(),
        };
        self.send(id, Body::Hello(hello));
        self.outputs.push_back(Output::Dial { link, attempt: 1, endpoint, timeout: Duration::MAX });
    }

    fn remove(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else { return };
        self.outputs.push_back(Output::Close(peer.link));
        if peer.is_ready {
            self.event(Event::Exit { peer: id, name: "".into(), reason: ExitReason::Left });
        }
        for group in peer.groups {
            self.begin_election(&group);
        }
    }

    fn members(&self, group: &Text) -> Vec<PeerId> {
        self.peers.iter().filter(|(_, peer)| peer.groups.contains(group)).map(|(id, _)| *id).collect()
    }

    /// Forgets an election that runs, and starts one where it stands.
    fn begin_election(&mut self, group: &Text) {
        self.elections.remove(group);
        if !self.contested.contains(group) {
            return;
        }
        self.elections.insert(group.clone(), Count { caw: Some(self.id), ..Count::default() });
        if self.members(group).is_empty() {
            self.event(Event::Leader { peer: self.id, name: Text::default(), group: group.clone() });
        }
        self.say_elect(group, self.id, None);
    }

    fn say_elect(&mut self, group: &Text, id: PeerId, but: Option<PeerId>) {
        for peer in self.members(group).into_iter().filter(|peer| Some(*peer) != but) {
            self.send(peer, Body::Elect { group: group.clone(), challenger: id.to_string().into() });
        }
    }

    fn say_leader(&mut self, group: &Text, id: PeerId) {
        for peer in self.members(group) {
            self.send(peer, Body::Leader { group: group.clone(), leader: id.to_string().into() });
        }
    }

    fn on_elect(&mut self, from: PeerId, group: &Text, challenger: PeerId) {
        let members = self.members(group).len();
        let count = self.elections.entry(group.clone()).or_default();
        if count.caw.is_none_or(|caw| challenger < caw) {
            *count = Count { caw: Some(challenger), father: Some(from), ..Count::default() };
            self.say_elect(group, challenger, Some(from));
        }
        let count = self.elections.get_mut(group).unwrap();
        if count.caw != Some(challenger) {
            return;
        }
        count.elects += 1;
        if count.elects != members {
            return;
        }
        let father = count.father;
        if challenger == self.id {
            self.say_leader(group, self.id);
        } else if let Some(father) = father {
            let body = Body::Elect { group: group.clone(), challenger: challenger.to_string().into() };
            self.send(father, body);
        }
    }

    fn on_leader(&mut self, group: &Text, leader: PeerId) {
        let members = self.members(group).len();
        let Some(count) = self.elections.get_mut(group).filter(|count| count.caw.is_some()) else { return };
        let is_first = count.leaders == 0;
        count.leaders += 1;
        count.leader = Some(leader);
        let is_complete = count.leaders == members;
        if is_first && leader != self.id {
            self.say_leader(group, leader);
        }
        if is_complete {
            self.elections.remove(group);
            self.event(Event::Leader { peer: leader, name: Text::default(), group: group.clone() });
        }
    }

    fn on_message(&mut self, now: Timestamp, id: PeerId, message: Message) {
        let Message { sequence, body } = message;
        if let Body::Hello(hello) = &body {
            if self.peers.get(&id).is_some_and(|peer| peer.is_ready) {
                self.remove(id);
            }
            let endpoint = hello.endpoint.as_str().unwrap().parse().unwrap();
            self.require(now, id, endpoint);
            let peer = self.peers.get_mut(&id).unwrap();
            peer.is_ready = true;
            peer.received = 0;
            let (endpoint, headers) = (hello.endpoint.clone(), hello.headers.clone());
            self.event(Event::Enter { peer: id, name: hello.name.clone(), headers, endpoint });
        }
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_ready) else { return };
        if sequence != peer.received.wrapping_add(1) {
            return self.remove(id);
        }
        peer.received = sequence;
        peer.heard = now;
        let name = Text::default();
        match body {
            Body::Hello(hello) => {
                for group in hello.groups {
                    self.peers.get_mut(&id).unwrap().groups.insert(group.clone());
                    self.event(Event::Join { peer: id, name: name.clone(), group: group.clone() });
                    self.begin_election(&group);
                }
            }
            Body::Join { group, .. } => {
                peer.groups.insert(group.clone());
                self.event(Event::Join { peer: id, name, group: group.clone() });
                self.begin_election(&group);
            }
            Body::Leave { group, .. } => {
                peer.groups.remove(&group);
                self.event(Event::Leave { peer: id, name, group: group.clone() });
                self.begin_election(&group);
            }
            Body::Whisper { content } => self.event(Event::Whisper { peer: id, name, content }),
            Body::Shout { group, content } => self.event(Event::Shout { peer: id, name, group, content }),
            Body::Ping => self.send(id, Body::PingOk),
            Body::Elect { group, challenger } => {
                self.on_elect(id, &group, challenger.as_str().unwrap().parse().unwrap());
            }
            Body::Leader { group, leader } => {
                self.on_leader(&group, leader.as_str().unwrap().parse().unwrap());
            }
            _ => {}
        }
    }

    fn on_timeout(&mut self, now: Timestamp) {
        if self.next_beacon <= now {
            let beacon = Beacon { peer: self.id, port: self.endpoint.port };
            self.outputs.push_back(Output::Beacon(beacon.encode()));
            self.next_beacon = now.after(Duration::from_secs(1));
        }
        if self.next_reap > now {
            return;
        }
        self.next_reap = now.after(Duration::from_secs(1));
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let peer = self.peers.get_mut(&id).unwrap();
            if std::mem::take(&mut peer.is_down) {
                // libzmq tries again on its own; the time does not matter.
                peer.attempt += 1;
                let (link, attempt, endpoint) = (peer.link, peer.attempt, peer.endpoint.clone());
                self.outputs.push_back(Output::Dial { link, attempt, endpoint, timeout: Duration::MAX });
            }
            let quiet = now.since(self.peers[&id].heard);
            if quiet >= Duration::from_secs(30) {
                self.remove(id);
            } else if quiet >= Duration::from_secs(5) {
                self.send(id, Body::Ping);
            }
        }
    }
}

impl Machine for Zyre {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::Beacon { from, beacon: Ok(beacon) } if beacon.peer != self.id => {
                if beacon.is_leaving() {
                    self.remove(beacon.peer);
                } else {
                    self.require(now, beacon.peer, SocketAddr::new(from.ip(), beacon.port).into());
                }
            }
            Input::DialFailed { link, .. } => {
                for peer in self.peers.values_mut().filter(|peer| peer.link == link) {
                    peer.is_down = true;
                }
            }
            Input::Closed { link } => {
                for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.link == link) {
                    peer.is_down = true;
                    self.outputs.push_back(Output::Open { link, peer: *id });
                }
            }
            Input::InboundOpened { link, identity, .. } => {
                let id = PeerId::from_bytes(identity[1..].try_into().unwrap());
                // ROUTER_HANDOVER: the newer connection has the identity.
                let old: Vec<_> =
                    self.links.iter().filter(|(_, other)| **other == id).map(|(link, _)| *link).collect();
                for old in old {
                    self.links.remove(&old);
                    self.outputs.push_back(Output::CloseInbound(old));
                }
                self.links.insert(link, id);
            }
            Input::InboundClosed { link } => drop(self.links.remove(&link)),
            Input::Received { link, frames } => {
                if let Some(id) = self.links.get(&link) {
                    self.on_message(now, *id, Message::decode(frames).unwrap());
                }
            }
            Input::Command(Command::Whisper { peer, content }) => {
                let is_ready = self.peers.get(&peer).is_some_and(|peer| peer.is_ready);
                if is_ready {
                    self.send(peer, Body::Whisper { content: content.into_frames() });
                }
                let answer = if is_ready { Ok(1) } else { Err(CommandError::UnknownPeer(peer)) };
                self.outputs.push_back(Output::Answer(answer));
            }
            _ => {}
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.next_beacon.min(self.next_reap))
    }
}
