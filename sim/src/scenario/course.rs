//! What happens on the internet of a scenario, and what must be true of it: steps, churn, traffic, expectations.
//!
//! Resolved, as everything that a [`Scenario`](super::Scenario) has; how a file becomes it is the business of the other files.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::internet::{Delay, Drift, Link, NodeIndex, SegmentIndex};

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// To whom, in the order of the file; empty for what is done to the network: partition and heal.
    pub nodes: Vec<NodeIndex>,
    /// What.
    pub action: Action,
    /// The line in the file, for messages.
    pub line: usize,
}

/// What a step does to each of its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The node ends in the given way.
    Crash(Crash),
    /// A node that is down comes up again, with a new identity unless its configuration fixes one.
    Restart,
    /// The node stops for a while, as under SIGSTOP: it keeps its sockets, and its kernel goes on answering.
    Pause,
    /// A paused node goes on.
    Resume,
    /// The node joins a ZRE group.
    Join(String),
    /// The node leaves a ZRE group.
    Leave(String),
    /// The node shouts one message of `bytes` bytes to the group.
    Shout {
        /// The group.
        group: String,
        /// Size of the message in bytes, at least [`MESSAGE_BYTES_MIN`].
        bytes: usize,
    },
    /// The node whispers one message of `bytes` bytes to another node.
    Whisper {
        /// The receiver.
        to: NodeIndex,
        /// Size of the message in bytes, at least [`MESSAGE_BYTES_MIN`].
        bytes: usize,
    },
    /// Nodes are cut off from others.
    Partition(Partition),
    /// The partition with this name ends; without one, all that there are.
    Heal(Option<String>),
    /// The links of the node's interfaces, in their order, become these; `None` stays as it is.
    Link(BTreeMap<NodeIndex, Vec<Option<Link>>>),
    /// The node's cables are pulled out of its interfaces: out of those on one segment, or of all.
    Unplug(Option<SegmentIndex>),
    /// The node's cables are put back, likewise.
    Plug(Option<SegmentIndex>),
    /// A NAT forgets all of its mappings.
    NatReboot,
    /// Something on the node's machine sends broadcasts as fast as it can.
    BroadcastStorm(Storm),
    /// The node's clock runs at another speed from now on.
    Clock(Drift),
    /// The machine is busy: each time that the program, having had nothing to do, wants to run, it waits for so long.
    Slow(Delay),
    /// An interface of the node gets another address instead of the one it has.
    Address(Move),
}

/// Another address for an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which of the node's interfaces, from 0.
    pub interface: usize,
    /// Its new address, free and on the same segment.
    pub address: Ipv4Addr,
}

/// Broadcasts to the port of beacons: half of them beacons of nodes that are not there, half of them garbage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Time between two of them.
    pub every: Duration,
    /// How long it lasts.
    pub lasting: Duration,
    /// Size of each that is garbage, in bytes.
    pub bytes: usize,
    /// Whether it is sent to LAN groups, and made of what harms them, instead of beacons.
    pub is_for_groups: bool,
}

/// A cut between two sets of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What a heal can call it.
    pub name: Option<String>,
    /// Nodes on one side.
    pub from: Vec<NodeIndex>,
    /// Nodes on the other side; none of them is in `from`.
    pub to: Vec<NodeIndex>,
    /// Only what `from` sends to `to` is cut off.
    pub is_one_way: bool,
}

/// Every simulated message starts with its sender and number, so it has at least this size.
pub const MESSAGE_BYTES_MIN: usize = 16;

/// The largest simulated message. It is far beyond what anybody shouts; more is a mistyped number.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Nodes that go down and come up again at random.
#[derive(Clone, Debug)]
pub struct Churn {
    /// Each of these by itself.
    pub nodes: Vec<NodeIndex>,
    /// How long a node is up on average: every span from half of this to one and a half is as likely as any other.
    pub up: Duration,
    /// How long it is down on average; likewise.
    pub down: Duration,
    /// How it ends, each as likely as any other; never empty.
    pub crash: Vec<Crash>,
    /// Nobody goes down before this.
    pub start: Duration,
    /// Nobody goes down from here on, and who is down comes up.
    pub stop: Duration,
    /// The line in the file, for messages.
    pub line: usize,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crash {
    /// The machine vanishes: nothing more is sent, nothing is answered.
    PowerCut,
    /// The process dies (`kill -9`): its kernel closes the sockets, with FIN or RST.
    ProcessExit,
    /// The program is asked to stop and says goodbye.
    Stop,
}

/// Messages that nodes send at a steady rate.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The senders.
    pub from: Vec<NodeIndex>,
    /// What they send.
    pub kind: TrafficKind,
    /// Time between two messages of one sender. Senders are spread evenly over it.
    pub every: Duration,
    /// No message before this.
    pub start: Duration,
    /// No message from here on.
    pub stop: Duration,
    /// Size of a message in bytes, at least [`MESSAGE_BYTES_MIN`].
    pub bytes: usize,
}

/// What kind of message traffic is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficKind {
    /// A shout to this group.
    Shout(String),
    /// A whisper to each of these in turn.
    Whisper(Vec<NodeIndex>),
    /// A TCP session to this address.
    Connect(std::net::SocketAddr, Manner),
}

/// How a client behaves in its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// It says what it has to say, and wants it back.
    #[default]
    Echo,
    /// Likewise, but it reads slowly: what comes back waits on the way.
    Slow,
    /// It says nothing and stays. Nothing is expected of its sessions.
    Idle,
    /// It says a byte a minute and stays. Nothing is expected of its sessions.
    Trickle,
    /// It asks by a datagram, and again until it is answered: what a client of a UDP service does.
    Query,
}

impl TrafficKind {
    /// To whom a sender's whisper with this number, from 0, goes: to each receiver in turn, but not to itself.
    pub fn receiver(&self, sender: NodeIndex, number: u64) -> Option<NodeIndex> {
        let Self::Whisper(receivers) = self else { return None };
        let others: Vec<NodeIndex> = receivers.iter().copied().filter(|to| *to != sender).collect();
        others.get(number as usize % others.len().max(1)).copied()
    }
}

/// Something that must be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// What must be true.
    pub that: Property,
    /// Only these nodes are asked; `None`: all. Only with [`Property::EveryoneKnowsEveryone`].
    pub among: Option<Vec<NodeIndex>>,
    /// `None`: at every moment. `Some`: from some moment no later than this one until the next step that starts, ends or
    /// pauses a node, or until the end.
    pub by: Option<Duration>,
    /// The line in the file, for messages.
    pub line: usize,
}

/// The properties that can be expected. Their names in a file are the kebab-case of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// `sessions-complete` (by): in every session that begins after that, what is said comes back whole.
    SessionsComplete,
    /// `everyone-knows-everyone` (by): every running node has entered every other running node, and nobody else.
    EveryoneKnowsEveryone,
    /// `the-dead-are-gone` (by): no running node still knows a node (or an earlier life of a node) that is down.
    TheDeadAreGone,
    /// `membership-is-symmetric` (by): a running node that another running node has entered has entered that one, too.
    MembershipIsSymmetric,
    /// `leaders-are-agreed` (by): at that time, the members of a group that can talk with each other know one leader, who is
    /// one of them.
    LeadersAreAgreed,
    /// `repeaters-know-each-other` (by): at that time, every running repeater listens to every other one that runs, and to
    /// nobody else.
    RepeatersKnowEachOther,
    /// `traffic-stays-below` (always): none of these nodes sends more than this in any second.
    TrafficStaysBelow(TrafficLimit),
    /// `memory-stays-below` (always): no program of these nodes ever holds more than this.
    MemoryStaysBelow(MemoryLimit),
    /// `no-live-peer-exits` (always): no node sees an EXIT of a peer that is up.
    NoLivePeerExits,
    /// `nobody-unknown-appears` (always): every ENTER names an identity that a node of the scenario has.
    NobodyUnknownAppears,
    /// `group-membership-converges` (by): every running member of a group knows every other, and nobody who is down.
    GroupMembershipConverges,
    /// `no-false-removal` (always): nobody removes a member of a group that is up and that he, or whom he reaches, can reach.
    NoFalseRemoval,
    /// `no-stranger-is-added` (always): every member of a group that is added is a node of the scenario.
    NoStrangerIsAdded,
    /// `the-dead-leave-the-group` (always): everybody who knows a member that goes down removes it in this time.
    TheDeadLeaveTheGroup(Duration),
    /// `never-meet` (always): no node of one of these groups enters a node of another of them.
    NeverMeet(Vec<Vec<NodeIndex>>),
    /// `shouts-arrive-once-and-in-order` (always): every shout reaches every member that its sender knew, whole, once,
    /// in the order of sending, as long as both stay up.
    ShoutsArriveOnceAndInOrder,
    /// `whispers-arrive-once-and-in-order` (always): likewise for whispers.
    WhispersArriveOnceAndInOrder,
}

/// How much each of these nodes may send; at least one of the two limits is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficLimit {
    /// Each of these by itself.
    pub nodes: Vec<NodeIndex>,
    /// Packets in any second.
    pub packets_per_s: Option<u64>,
    /// TCP connections that it accepts in any second.
    pub connections_per_s: Option<u64>,
    /// Bytes in any second, IP headers included.
    pub bytes_per_s: Option<u64>,
}

/// How much memory the program of each of these nodes may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Each of these by itself.
    pub nodes: Vec<NodeIndex>,
    /// Bytes that it has allocated and not freed.
    pub bytes: u64,
}
