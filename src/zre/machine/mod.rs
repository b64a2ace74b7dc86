//! What a ZRE node decides: who is a peer, what is said to it, and what the application is told.
//!
//! [`NodeMachine`] is pure: it does no IO, reads no clock and draws no randomness but from its seed. This file has what
//! goes in and out; the decisions are in four rooms:
//!
//! * `discovery`: beacons and HELLOs; how peers come to be, and how they end. `homes`: our own addresses.
//! * `links`: our link to each peer and its links to us.
//! * `messages`: what peers say, and what we say. `election`: who leads which group.
//! * `timers`: beacons to send, quiet peers, attempts to repeat.
//!
//! Two decisions run through all of it. *One HELLO, one stream*: a HELLO starts the count of messages anew, so whatever
//! makes a link fresh is an EXIT and an ENTER for the application, which so knows that between the two of them nothing
//! was lost. *Answer, but don't echo*: a HELLO from a ready peer may be the answer to our own or a cry of one that lost
//! us. The first must not be answered, or two nodes greet each other for ever; see `discovery`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use self::election::Elections;
use self::seeds::Seed;
use super::beacon::{Beacon, BeaconError};
use super::group::{Members, OwnGroups};
use super::limits::Budget;
use super::liveness::Patience;
use super::message::{Body, Hello, Message};
use super::peer::PeerInfo;
use super::peers::Peers;
use super::{
    CommandError, Config, ConfigError, Content, Counters, Endpoint, Event, Headers, Limits, PeerId, Text,
};
use crate::Timestamp;
use crate::machine::Machine;

mod discovery;
mod election;
mod homes;
#[cfg(any(test, feature = "fuzzing"))]
mod invariants;
mod links;
mod messages;
mod seeds;
#[cfg(test)]
mod tests;
mod timers;

/// Newcomers whose beacons are replied to. When more come, there is a crowd or a storm, and the next beacon does for all.
const REPLIES_PER_SECOND: u32 = 10;
const REPLIES_AT_ONCE: usize = 64;

pub use homes::Home;

/// The header by which Hailers know each other, and so that they may say what others would die of (pyre takes an ELECT for
/// a lost message, and gyre panics). Nothing on the wire tells kinds of nodes apart. Applications don't see it.
const KIND_HEADER: &str = "X-HAILER";
/// Its value: the kind of node, to be told apart should that ever be needed.
const KIND: &str = "1";

/// Our link to a peer: a queue of messages and, when it is connected, a ZMTP connection from our DEALER. Its number is
/// never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboundLink(u64);

impl OutboundLink {
    /// The link with this number, for tests and logs.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A connection to our ROUTER. Numbers ascend in the order in which connections were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundLink(u64);

impl InboundLink {
    /// The link with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timeout,
    /// These are our addresses now, the one for peers of no network of ours first.
    Homes(Vec<Home>),
    /// A datagram came to the beacon port.
    Beacon {
        /// Who sent it.
        from: SocketAddr,
        /// What it is.
        beacon: Result<Beacon, BeaconError>,
    },
    /// Somebody else says where a node is: a gossip hub. It is believed as far as it leads to a node.
    Found {
        /// Which node.
        peer: PeerId,
        /// Where it is said to be.
        endpoint: Endpoint,
    },
    /// A connection of ours is through its handshake.
    Opened {
        /// Which.
        link: OutboundLink,
    },
    /// A link to a static peer ([`Output::Knock`]) is through its handshake.
    Answered {
        /// Which.
        link: OutboundLink,
        /// Who answered, if it says so.
        peer: Option<PeerId>,
        /// At which address.
        at: SocketAddr,
    },
    /// An attempt to connect failed.
    DialFailed {
        /// Which link was to be connected.
        link: OutboundLink,
        /// Which attempt.
        attempt: u32,
        /// How it failed.
        failure: DialFailure,
    },
    /// A connection of ours closed or broke.
    Closed {
        /// Which.
        link: OutboundLink,
    },
    /// The queue of a link is full; the message that did not fit is lost.
    QueueFull {
        /// Which.
        link: OutboundLink,
    },
    /// [`Output::Reach`] has its answer.
    Reached {
        /// Which link was asked about.
        link: OutboundLink,
        /// Whether somebody takes connections there, or how it failed.
        outcome: Result<(), DialFailure>,
    },
    /// A connection to us is through its handshake.
    InboundOpened {
        /// Which.
        link: InboundLink,
        /// The ZMTP identity of the peer's socket.
        identity: Bytes,
        /// Where it comes from.
        remote: SocketAddr,
    },
    /// A connection to us closed or broke.
    InboundClosed {
        /// Which.
        link: InboundLink,
    },
    /// A message came.
    Received {
        /// On which link.
        link: InboundLink,
        /// Its frames.
        frames: Vec<Bytes>,
    },
    /// The application wants the node to end. What was sent is written, and [`Command::Stop`] follows.
    Ending,
    /// The application wants something. Exactly one [`Output::Answer`] is among the outputs that follow.
    Command(Command),
}

/// How an attempt to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Nobody listens on the port.
    Refused,
    /// A node with another identity answered: the peer's place was given to it. (zyre and pyre don't say who they are.)
    AnotherPeer,
    /// It took too long.
    TimedOut,
    /// No way there, no such name, or whoever answered does not talk ZMTP.
    Unreachable,
}

/// What an application can ask for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Enter a group.
    Join(Text),
    /// Leave a group.
    Leave(Text),
    /// Send to one peer.
    Whisper {
        /// To whom.
        peer: PeerId,
        /// What.
        content: Content,
    },
    /// Send to all peers in a group.
    Shout {
        /// To which group.
        group: Text,
        /// What.
        content: Content,
    },
    /// Send PING to one peer; [`Output::Pong`] follows when it answers, or has exited.
    Ping {
        /// To whom.
        peer: PeerId,
        /// What [`Output::Pong`] names it by.
        token: u64,
    },
    /// Say goodbye and end.
    Stop,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell the application: how many peers its message goes to (0 for what is no message), or why nothing was done.
    Answer(Result<usize, CommandError>),
    /// Broadcast this.
    Beacon([u8; Beacon::LEN]),
    /// Send this to the beacon port of one newcomer, whose beacon it answers: so both dial at once, and whose beacons get
    /// lost is found all the same.
    Reply {
        /// The beacon.
        beacon: [u8; Beacon::LEN],
        /// Where the newcomer's came from.
        to: SocketAddr,
    },
    /// Make a link to a peer: a queue, not connected yet.
    Open {
        /// Its name from now on.
        link: OutboundLink,
        /// To whom, for logs.
        peer: PeerId,
    },
    /// Try to connect a link, besides attempts that may still run: the first that succeeds counts and ends the others.
    Dial {
        /// Which link.
        link: OutboundLink,
        /// Which attempt, for [`Input::DialFailed`].
        attempt: u32,
        /// Where to.
        endpoint: Endpoint,
        /// How long to try. After that the attempt failed.
        timeout: Duration,
    },
    /// Find out whether anybody takes connections where a link goes, by one that says nothing.
    Reach {
        /// Which link, for [`Input::Reached`].
        link: OutboundLink,
        /// Where.
        endpoint: Endpoint,
        /// How long to try. After that nobody is there.
        timeout: Duration,
    },
    /// Make a link to a static peer and try to connect it; [`Input::Answered`] or [`Input::DialFailed`] follows.
    Knock {
        /// Its name from now on.
        link: OutboundLink,
        /// Where to.
        endpoint: Endpoint,
        /// How long to try. After that the attempt failed.
        timeout: Duration,
    },
    /// Queue a message on a link.
    Send {
        /// Which.
        link: OutboundLink,
        /// Its frames.
        frames: Vec<Bytes>,
    },
    /// Close a link and forget what is queued.
    Close(OutboundLink),
    /// Close a connection to us.
    CloseInbound(InboundLink),
    /// The answer to [`Command::Ping`].
    Pong {
        /// Which.
        token: u64,
        /// Whether the peer answered; if not, it has exited.
        is_answered: bool,
    },
    /// Tell the application.
    Event(Event),
    /// The node has ended. Nothing follows.
    Stopped,
}

/// A connection to us, as far as it is known.
#[derive(Debug)]
struct Inbound {
    peer: PeerId,
    remote: SocketAddr,
    /// When it has to have sent HELLO; `None` once it counts as its peer's.
    hello_by: Option<Timestamp>,
}

/// A ZRE node without its network. See [`Machine`] for how it is driven.
#[derive(Debug)]
// In this order in memory: what each beacon looks at comes first, in as few cache lines as it needs.
#[repr(C)]
pub struct NodeMachine {
    id: PeerId,
    peers: Peers,
    outputs: VecDeque<Output>,
    sends_beacons: bool,
    is_ending: bool,
    is_stopped: bool,
    name: Text,
    headers: Headers,
    /// Where peers of no network of ours are told to reach us.
    endpoint: Endpoint,
    /// Whether that is somewhere else than where we listen, for all peers.
    is_advertised: bool,
    /// Where we listen, at the first of our homes.
    inbox: Endpoint,
    homes: Vec<Home>,
    interval: Duration,
    patience: Patience,
    limits: Limits,
    own: OwnGroups,
    /// Our HELLO as it goes out, until a group changes: one for the peers of each home.
    hellos: Vec<Vec<Bytes>>,
    not_ready: usize,
    members: Members,
    elections: Elections,
    /// The peer at each peer's first endpoint: two can't be at the same.
    places: BTreeMap<Endpoint, PeerId>,
    outbound: BTreeMap<OutboundLink, PeerId>,
    inbound: BTreeMap<InboundLink, Inbound>,
    /// Those of them that sent no HELLO yet.
    without_hello: BTreeSet<InboundLink>,
    last_link: u64,
    newcomers: Budget,
    replies: Budget,
    random: u64,
    /// Static peers.
    seeds: Vec<Seed>,
    next_beacon: Timestamp,
    /// The time from that beacon to the one after it.
    beacon_gap: Duration,
    next_check: Timestamp,
    counters: Counters,
}

impl NodeMachine {
    /// A node with this identity whose inbox is at `inbox`. Its first output is a beacon, due at `now`. `seed` feeds
    /// the jitter of repeated attempts.
    ///
    /// # Errors
    /// When the configuration can't be carried out.
    pub fn new(
        config: Config,
        limits: Limits,
        id: PeerId,
        inbox: Endpoint,
        seed: u64,
        now: Timestamp,
    ) -> Result<Self, ConfigError> {
        let patience = Patience::from(&config);
        if config.interval.is_zero() {
            return Err(ConfigError::Interval);
        }
        let is_ordered = !patience.evasive.is_zero()
            && patience.evasive <= patience.silent
            && patience.silent <= patience.expired;
        if !is_ordered {
            return Err(ConfigError::Patience);
        }
        let elections = Elections::new(&config.contest);
        let mut own = OwnGroups::default();
        for group in config.groups {
            own.join(group);
        }
        let mut machine = Self {
            id,
            name: config.name.unwrap_or_else(|| Text::from(&id.to_string()[..6])),
            headers: config.headers,
            is_advertised: config.advertise.is_some(),
            endpoint: config.advertise.unwrap_or_else(|| inbox.clone()),
            inbox,
            homes: Vec::new(),
            sends_beacons: config.beacon,
            interval: config.interval,
            patience,
            own,
            hellos: Vec::new(),
            peers: Peers::default(),
            not_ready: 0,
            members: Members::default(),
            elections,
            places: BTreeMap::new(),
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            without_hello: BTreeSet::new(),
            last_link: 0,
            replies: Budget::new(REPLIES_PER_SECOND, REPLIES_AT_ONCE, now),
            newcomers: Budget::new(limits.new_peers_per_second, limits.peers_not_ready, now),
            limits,
            random: seed,
            seeds: config.peers.into_iter().map(|endpoint| Seed::new(endpoint, now)).collect(),
            next_beacon: if config.beacon { now } else { Timestamp::NEVER },
            beacon_gap: timers::BURST_GAP,
            next_check: Timestamp::NEVER,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            is_ending: false,
            is_stopped: false,
        };
        machine.hellos = machine.introductions().map_err(ConfigError::Introduction)?;
        for group in machine.own.iter().cloned().collect::<Vec<_>>() {
            machine.on_own_groups_changed(now, &group);
        }
        Ok(machine)
    }

    /// Who we are.
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Our name.
    pub const fn name(&self) -> &Text {
        &self.name
    }

    /// Where peers are told to reach us.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The peers that entered, in the order of their identities.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> {
        self.peers.iter().filter_map(|(id, peer)| peer.info(*id))
    }

    /// One peer, if it entered.
    pub fn peer(&self, id: PeerId) -> Option<PeerInfo> {
        self.peers.get(&id)?.info(id)
    }

    /// The peers in a group, in the order of their identities.
    pub fn members(&self, group: &Text) -> impl Iterator<Item = PeerId> {
        self.members.of(group)
    }

    /// Whether a peer entered that is no Hailer.
    pub(in crate::zre) fn is_of_another_kind(&self, id: PeerId) -> bool {
        self.peers.get(&id).and_then(|peer| peer.introduction.as_ref()).is_some_and(|it| !it.is_hailer)
    }

    /// The groups that we are in, in the order of their bytes.
    pub fn own_groups(&self) -> impl Iterator<Item = &Text> {
        self.own.iter()
    }

    /// The groups that somebody is in, in the order of their bytes.
    pub fn groups(&self) -> Vec<Text> {
        let all: BTreeSet<&Text> = self.own.iter().chain(self.members.groups()).collect();
        all.into_iter().cloned().collect()
    }

    /// What was counted so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// For what the driver sees and the machine does not.
    pub(in crate::zre) const fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn introduction(&self, endpoint: &Endpoint) -> Message {
        let mut headers = self.headers.clone();
        headers.insert(KIND_HEADER.into(), KIND.into());
        let hello = Hello {
            endpoint: endpoint.to_string().into(),
            groups: self.own.iter().cloned().collect(),
            status: self.own.status(),
            name: self.name.clone(),
            headers,
        };
        Message { sequence: 1, body: Body::Hello(hello) }
    }

    /// The next of our own random numbers (splitmix64).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn event(&mut self, event: Event) {
        self.output(Output::Event(event));
    }
}

impl Machine for NodeMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        if self.is_stopped {
            if let Input::Command(_) = input {
                self.output(Output::Answer(Err(CommandError::Stopped)));
            }
            return;
        }
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::Homes(homes) => self.on_homes(now, homes),
            Input::Beacon { from, beacon } => self.on_beacon(now, from, beacon),
            Input::Found { peer, endpoint } => self.on_found(now, peer, endpoint),
            Input::Answered { link, peer, at } => self.on_answered(now, link, peer, at),
            Input::Opened { link } => self.on_opened(now, link),
            Input::DialFailed { link, attempt, failure } => self.on_dial_failed(now, link, attempt, failure),
            Input::Closed { link } => self.on_closed(now, link),
            Input::Reached { link, outcome } => self.on_reached(now, link, outcome),
            Input::QueueFull { link } => self.on_queue_full(now, link),
            Input::InboundOpened { link, identity, remote } => {
                self.on_inbound_opened(now, link, &identity, remote);
            }
            Input::InboundClosed { link } => self.on_inbound_closed(now, link),
            Input::Received { link, frames } => self.on_received(now, link, frames),
            Input::Ending => self.say_goodbye(),
            Input::Command(command) => {
                let before = self.own.status();
                self.on_command(now, command);
                if self.own.status() != before {
                    self.forget_greetings(now);
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let due = self.next_beacon.min(self.next_check).min(self.next_seed());
        (!self.is_stopped && due < Timestamp::NEVER).then_some(due)
    }
}
