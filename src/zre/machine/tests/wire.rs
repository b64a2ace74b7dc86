//! Machines connected by a network in memory, which delivers in whatever order it is told.
//!
//! What can happen next is a list of steps: a datagram arrives, an attempt to connect reaches its target, the next thing on
//! one direction of a connection is delivered. Order is kept within one direction of one connection and nowhere else.
//! Nothing takes time but what the test lets pass.

use std::collections::BTreeSet;

use super::zyre::Zyre;
use super::*;

/// As many deliveries in one instant can only be an endless conversation.
const STORM: usize = 5000;

enum Item {
    Opened,
    Message(Vec<Bytes>),
    Closed,
}

/// One connection from a node's link to another node.
struct Connection {
    from: usize,
    link: OutboundLink,
    to: usize,
    inbound: InboundLink,
    /// On the way to `to`.
    down: VecDeque<Item>,
    /// On the way back: that it is open, or closed.
    up: VecDeque<Item>,
    is_closed_by_source: bool,
    is_closed_by_target: bool,
}

struct Dial {
    from: usize,
    link: OutboundLink,
    /// `None` when it only asks whether somebody is there.
    attempt: Option<u32>,
    endpoint: Endpoint,
}

/// Who thinks in a host.
pub(super) enum Mind {
    Hailer(Box<NodeMachine>),
    Zyre(Box<Zyre>),
}

impl Mind {
    fn handle(&mut self, now: Timestamp, input: Input) {
        match self {
            Self::Hailer(machine) => machine.handle(now, input),
            Self::Zyre(zyre) => zyre.handle(now, input),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        match self {
            Self::Hailer(machine) => machine.poll(),
            Self::Zyre(zyre) => zyre.poll(),
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Hailer(machine) => machine.deadline(),
            Self::Zyre(zyre) => zyre.deadline(),
        }
    }

    fn ready(&self) -> Vec<PeerId> {
        match self {
            Self::Hailer(machine) => machine.peers().map(|info| info.peer).collect(),
            Self::Zyre(zyre) => zyre.ready(),
        }
    }

    fn groups(&self) -> Vec<Text> {
        match self {
            Self::Hailer(machine) => machine.own_groups().cloned().collect(),
            Self::Zyre(zyre) => zyre.groups(),
        }
    }

    fn groups_of(&self, peer: PeerId) -> Vec<Text> {
        match self {
            Self::Hailer(machine) => machine.peer(peer).unwrap().groups,
            Self::Zyre(zyre) => zyre.groups_of(peer),
        }
    }

    /// The link that a peer's messages come on, and the number of its next message.
    fn stream_of(&self, peer: PeerId) -> Option<(InboundLink, u16)> {
        match self {
            Self::Hailer(machine) => {
                let peer = machine.peers.get(&peer)?;
                Some((peer.inbound?, peer.received.next()))
            }
            Self::Zyre(zyre) => zyre.stream_of(peer),
        }
    }
}

struct Host {
    mind: Mind,
    address: SocketAddr,
    is_alive: bool,
    /// Links without a connection, and what waits on them.
    waiting: BTreeMap<OutboundLink, Vec<Vec<Bytes>>>,
    last_inbound: u64,
    events: Vec<Event>,
    /// How many whispers were sent to each peer; each carries its number.
    whispered: BTreeMap<PeerId, u64>,
}

pub(super) struct Wire {
    pub(super) now: Timestamp,
    hosts: Vec<Host>,
    dials: Vec<Dial>,
    connections: Vec<Connection>,
    /// Target, sender, datagram.
    datagrams: Vec<(usize, SocketAddr, [u8; Beacon::LEN])>,
    /// Every input of every machine, for replays.
    pub(super) log: Vec<(usize, Timestamp, Input)>,
    pub(super) outputs: Vec<(usize, Output)>,
}

pub(super) fn id(host: usize) -> PeerId {
    PeerId::from_bytes([host as u8 + 1; 16])
}

pub(super) fn machine(host: usize, now: Timestamp) -> NodeMachine {
    standing(host, now, Vec::new())
}

/// One that stands in these groups.
fn standing(host: usize, now: Timestamp, contest: Vec<Text>) -> NodeMachine {
    let config = Config { groups: groups(host), contest, ..Config::default() };
    NodeMachine::new(config, Limits::default(), id(host), endpoint(host), host as u64, now).unwrap()
}

fn endpoint(host: usize) -> Endpoint {
    Endpoint { host: format!("10.0.0.{}", host + 1), port: 49152 }
}

fn groups(host: usize) -> Vec<Text> {
    vec![text("ALL"), Text::from(format!("G{host}"))]
}

impl Wire {
    pub(super) fn new(hosts: usize) -> Self {
        Self::of((0..hosts).map(|host| Mind::Hailer(Box::new(machine(host, Timestamp::ZERO)))).collect())
    }

    /// The first `hailers` hosts run our machine, and the other `zyres` run zyre.
    pub(super) fn with_zyre(hailers: usize, zyres: usize) -> Self {
        let hailer = (0..hailers).map(|host| Mind::Hailer(Box::new(machine(host, Timestamp::ZERO))));
        let zyre = (hailers..hailers + zyres)
            .map(|host| Mind::Zyre(Box::new(Zyre::new(id(host), endpoint(host), groups(host)))));
        Self::of(hailer.chain(zyre).collect())
    }

    /// As [`Wire::with_zyre`]; these hosts stand for leader in ALL.
    pub(super) fn electing(hailers: usize, zyres: usize, candidates: &[usize]) -> Self {
        let contest = |host: usize| if candidates.contains(&host) { vec![text("ALL")] } else { Vec::new() };
        let hailer =
            (0..hailers).map(|host| Mind::Hailer(Box::new(standing(host, Timestamp::ZERO, contest(host)))));
        let zyre = (hailers..hailers + zyres).map(|host| {
            let mut zyre = Zyre::new(id(host), endpoint(host), groups(host));
            zyre.contested = contest(host).into_iter().collect();
            Mind::Zyre(Box::new(zyre))
        });
        Self::of(hailer.chain(zyre).collect())
    }

    fn of(minds: Vec<Mind>) -> Self {
        let host = |(host, mind)| Host {
            mind,
            address: SocketAddr::from(([10, 0, 0, host as u8 + 1], 49152)),
            is_alive: true,
            waiting: BTreeMap::new(),
            last_inbound: 0,
            events: Vec::new(),
            whispered: BTreeMap::new(),
        };
        Self {
            now: Timestamp::ZERO,
            hosts: minds.into_iter().enumerate().map(host).collect(),
            dials: Vec::new(),
            connections: Vec::new(),
            datagrams: Vec::new(),
            log: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn feed(&mut self, host: usize, input: Input) -> Option<Result<usize, CommandError>> {
        if !self.hosts[host].is_alive {
            return None;
        }
        self.log.push((host, self.now, input.clone()));
        self.hosts[host].mind.handle(self.now, input);
        let mut answer = None;
        while let Some(output) = self.hosts[host].mind.poll() {
            self.outputs.push((host, output.clone()));
            match output {
                Output::Answer(result) => answer = Some(result),
                output => self.act(host, output),
            }
        }
        answer
    }

    fn act(&mut self, from: usize, output: Output) {
        match output {
            Output::Beacon(datagram) => {
                let sender = self.hosts[from].address;
                let others = (0..self.hosts.len()).filter(|to| *to != from);
                self.datagrams.extend(others.map(|to| (to, sender, datagram)));
            }
            Output::Reply { beacon, to } => {
                let sender = self.hosts[from].address;
                let target = self.hosts.iter().position(|host| host.address.ip() == to.ip());
                self.datagrams.extend(target.map(|to| (to, sender, beacon)));
            }
            Output::Knock { .. } => panic!("nobody here has static peers"),
            Output::Open { link, .. } => drop(self.hosts[from].waiting.insert(link, Vec::new())),
            Output::Dial { link, attempt, endpoint, .. } => {
                self.dials.push(Dial { from, link, attempt: Some(attempt), endpoint });
            }
            Output::Reach { link, endpoint, .. } => {
                self.dials.push(Dial { from, link, attempt: None, endpoint });
            }
            Output::Send { link, frames } => match self.connection(from, link) {
                Some(connection) => connection.down.push_back(Item::Message(frames)),
                None => self.hosts[from].waiting.get_mut(&link).expect("a link that is open").push(frames),
            },
            Output::Close(link) => {
                self.hosts[from].waiting.remove(&link);
                if let Some(connection) = self.connection(from, link) {
                    connection.is_closed_by_source = true;
                    connection.down.push_back(Item::Closed);
                    connection.up.clear();
                }
            }
            Output::CloseInbound(link) => {
                let is_it = |c: &&mut Connection| c.to == from && c.inbound == link;
                let connection = self.connections.iter_mut().find(is_it).expect("a link that is open");
                connection.is_closed_by_target = true;
                connection.down.clear();
                connection.up.push_back(Item::Closed);
            }
            Output::Event(event) => self.hosts[from].events.push(event),
            Output::Answer(_) | Output::Pong { .. } | Output::Stopped => {}
        }
    }

    fn connection(&mut self, from: usize, link: OutboundLink) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.from == from && c.link == link && !c.is_closed_by_source)
    }

    /// How many steps are possible.
    pub(super) fn steps(&self) -> usize {
        self.dials.len() + 2 * self.connections.len() + self.datagrams.len()
    }

    /// Takes one step. A step on a connection may find nothing to deliver.
    pub(super) fn step(&mut self, step: usize) -> bool {
        let dials = self.dials.len();
        let ends = dials + 2 * self.connections.len();
        if step < dials {
            let dial = self.dials.remove(step);
            self.connect(dial);
            true
        } else if step < ends {
            let index = (step - dials) / 2;
            if (step - dials).is_multiple_of(2) { self.deliver_down(index) } else { self.deliver_up(index) }
        } else {
            let (to, from, datagram) = self.datagrams.remove(step - ends);
            self.feed(to, Input::Beacon { from, beacon: Beacon::decode(&datagram) });
            true
        }
    }

    fn connect(&mut self, Dial { from, link, attempt, endpoint }: Dial) {
        let address = endpoint.socket_addr().unwrap();
        let to = self.hosts.iter().position(|host| host.is_alive && host.address == address);
        let Some(attempt) = attempt else {
            let outcome = to.map(drop).ok_or(DialFailure::Refused);
            self.feed(from, Input::Reached { link, outcome });
            return;
        };
        let Some(to) = to else {
            let failure = DialFailure::Refused;
            self.feed(from, Input::DialFailed { link, attempt, failure });
            return;
        };
        // The first attempt that gets through counts; a link that is closed has none.
        let Some(queue) = self.hosts[from].waiting.remove(&link) else { return };
        self.hosts[to].last_inbound += 1;
        let inbound = InboundLink::from_number(self.hosts[to].last_inbound);
        let mut down = VecDeque::from([Item::Opened]);
        down.extend(queue.into_iter().map(Item::Message));
        let up = VecDeque::from([Item::Opened]);
        let (is_closed_by_source, is_closed_by_target) = (false, false);
        self.connections.push(Connection {
            from,
            link,
            to,
            inbound,
            down,
            up,
            is_closed_by_source,
            is_closed_by_target,
        });
    }

    fn deliver_down(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        let (to, link) = (connection.to, connection.inbound);
        let Some(item) = connection.down.pop_front() else { return false };
        let remote = SocketAddr::new(self.hosts[connection.from].address.ip(), 33333);
        let identity = [&[1], &id(connection.from).as_bytes()[..]].concat().into();
        let input = match item {
            Item::Opened => Input::InboundOpened { link, identity, remote },
            Item::Message(frames) => Input::Received { link, frames },
            Item::Closed => Input::InboundClosed { link },
        };
        if !self.connections[index].is_closed_by_target {
            self.feed(to, input);
        }
        true
    }

    fn deliver_up(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        let (from, link) = (connection.from, connection.link);
        let Some(item) = connection.up.pop_front() else { return false };
        let input = match item {
            Item::Opened => Input::Opened { link },
            Item::Closed | Item::Message(_) => {
                connection.is_closed_by_source = true;
                Input::Closed { link }
            }
        };
        self.feed(from, input);
        true
    }

    /// Cuts a connection; what is on the way is lost.
    pub(super) fn cut(&mut self, index: usize) {
        if !self.connections.is_empty() {
            let index = index % self.connections.len();
            let connection = &mut self.connections[index];
            if !connection.is_closed_by_target {
                let was_open = !matches!(connection.down.front(), Some(Item::Opened));
                connection.down.clear();
                if !was_open {
                    connection.down.push_back(Item::Opened);
                }
                connection.down.push_back(Item::Closed);
            }
            if !connection.is_closed_by_source {
                connection.up.push_back(Item::Closed);
            }
        }
    }

    /// Loses a datagram.
    pub(super) fn lose(&mut self, index: usize) {
        if !self.datagrams.is_empty() {
            let index = index % self.datagrams.len();
            self.datagrams.remove(index);
        }
    }

    /// Delivers a datagram twice.
    pub(super) fn duplicate(&mut self, index: usize) {
        if !self.datagrams.is_empty() {
            let datagram = self.datagrams[index % self.datagrams.len()];
            self.datagrams.push(datagram);
        }
    }

    /// The process of a host ends without a word.
    pub(super) fn crash(&mut self, host: usize) {
        self.hosts[host].is_alive = false;
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if connection.from == host || connection.to == host {
                self.cut(index);
            }
        }
    }

    /// One host forgets another, as if it had missed a message of it.
    pub(super) fn lose_sync(&mut self, host: usize, peer: usize) {
        let Some((link, next)) = self.hosts[host].mind.stream_of(id(peer)) else { return };
        let sequence = next.wrapping_add(7);
        let frames = Message { sequence, body: Body::PingOk }.encode().unwrap();
        self.feed(host, Input::Received { link, frames });
    }

    pub(super) fn overflow(&mut self, host: usize, peer: usize) {
        let Mind::Hailer(machine) = &self.hosts[host].mind else { return };
        let Some(peer) = machine.peers.get(&id(peer)) else { return };
        let link = peer.outbound.link;
        self.feed(host, Input::QueueFull { link });
    }

    pub(super) fn whisper(&mut self, host: usize, to: usize) {
        let number = self.hosts[host].whispered.get(&id(to)).copied().unwrap_or_default();
        let content = Content::from(number.to_string());
        if let Some(Ok(_)) = self.feed(host, Input::Command(Command::Whisper { peer: id(to), content })) {
            self.hosts[host].whispered.insert(id(to), number + 1);
        }
    }

    pub(super) fn join(&mut self, host: usize, group: &'static str) {
        self.feed(host, Input::Command(Command::Join(group.into())));
    }

    pub(super) fn leave(&mut self, host: usize, group: &'static str) {
        self.feed(host, Input::Command(Command::Leave(group.into())));
    }

    /// Lets time pass, and nothing arrive.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let due = |host: &Host| host.mind.deadline().filter(|_| host.is_alive);
            let Some(next) = self.hosts.iter().filter_map(due).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for host in 0..self.hosts.len() {
                if self.hosts[host].mind.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.feed(host, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    /// Delivers everything, in the order of the list.
    pub(super) fn settle(&mut self) {
        let mut count = 0;
        while (0..self.steps()).any(|step| self.step(step)) {
            count += 1;
            assert!(count < STORM, "they greet each other without end");
        }
        self.connections.retain(|c| !(c.is_closed_by_source || c.is_closed_by_target));
    }

    /// Lets time pass on a network that works.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        self.settle();
        while self.now < end {
            self.pass(Duration::from_millis(100));
            self.settle();
        }
    }

    pub(super) fn events(&self, host: usize) -> &[Event] {
        &self.hosts[host].events
    }

    /// What must hold for what every application saw, whatever the network did.
    pub(super) fn check_stories(&self) {
        for host in 0..self.hosts.len() {
            let mut present: BTreeMap<PeerId, BTreeSet<Text>> = BTreeMap::new();
            let mut numbers: BTreeMap<PeerId, Option<u64>> = BTreeMap::new();
            for event in self.events(host) {
                match event.clone() {
                    Event::Enter { peer, .. } => {
                        assert!(present.insert(peer, BTreeSet::new()).is_none(), "ENTER twice");
                        numbers.insert(peer, None);
                    }
                    Event::Exit { peer, .. } => {
                        assert!(present.remove(&peer).is_some(), "EXIT of a stranger");
                    }
                    Event::Join { peer, group, .. } => {
                        assert!(
                            present.get_mut(&peer).expect("JOIN after ENTER").insert(group),
                            "JOIN twice"
                        );
                    }
                    Event::Leave { peer, group, .. } => {
                        assert!(
                            present.get_mut(&peer).expect("LEAVE after ENTER").remove(&group),
                            "LEAVE first"
                        );
                    }
                    Event::Whisper { peer, content, .. } => {
                        assert!(present.contains_key(&peer), "WHISPER of a stranger");
                        let number: u64 = std::str::from_utf8(&content[0]).unwrap().parse().unwrap();
                        if let Some(last) = numbers.insert(peer, Some(number)).unwrap() {
                            assert_eq!(number, last + 1, "something was lost between ENTER and EXIT");
                        }
                    }
                    Event::Evasive { peer, .. } | Event::Silent { peer, .. } => {
                        assert!(present.contains_key(&peer), "suspicion of a stranger");
                    }
                    Event::Shout { .. } | Event::Leader { .. } | Event::Stop => {}
                }
            }
        }
    }

    /// What must hold when the network has worked for long enough: all know each other, with the right groups, and can
    /// talk.
    pub(super) fn check_mesh(&mut self) {
        let alive: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].is_alive).collect();
        for &host in &alive {
            let mind = &self.hosts[host].mind;
            let others: Vec<usize> = alive.iter().copied().filter(|other| *other != host).collect();
            let ids: Vec<PeerId> = others.iter().map(|other| id(*other)).collect();
            assert_eq!(mind.ready(), ids, "peers of {host}");
            for other in others {
                let groups = self.hosts[other].mind.groups();
                assert_eq!(mind.groups_of(id(other)), groups, "groups of {other} at {host}");
            }
            if let Mind::Hailer(machine) = mind {
                assert_eq!((machine.not_ready, machine.outbound.len()), (0, ids.len()));
                // libzmq may have connected again below zyre, which has nothing to say on the new connection yet. It can't be
                // taken for the peer's before it says something: of attempts that a peer makes side by side, those that it
                // gave up open here, too. The whispers below go over it.
                let silent: Vec<PeerId> =
                    machine.without_hello.iter().map(|link| machine.inbound[link].peer).collect();
                assert_eq!(machine.inbound.len() - silent.len(), ids.len());
                for (place, peer) in silent.iter().enumerate() {
                    let is_zyre = |other: &usize| matches!(self.hosts[*other].mind, Mind::Zyre(_));
                    assert!(
                        alive.iter().any(|other| is_zyre(other) && id(*other) == *peer),
                        "{peer} owes HELLO"
                    );
                    assert!(!silent[..place].contains(peer), "{peer} has two links without HELLO");
                }
            }
        }
        for &host in &alive {
            for &other in alive.iter().filter(|other| **other != host) {
                let before = self.events(other).len();
                self.whisper(host, other);
                self.settle();
                let news = &self.events(other)[before..];
                assert!(
                    matches!(news, [Event::Whisper { peer, .. }] if *peer == id(host)),
                    "{host}: {news:?}"
                );
            }
        }
    }
}
