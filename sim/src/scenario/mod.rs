//! A scenario: a small internet, what happens on it, and what must be true of it.
//!
//! The types here are *resolved*: names are checked, counts are expanded, defaults are filled in, and nothing is left to
//! decide while a world runs. How a file becomes one is the business of `file` and its parts: `link`, `segments`, `nodes`,
//! `routes`, `nat`, `docker`, `machine`, `script`, `faults`, `churn`, `timeline`, `limits`, and `names` and `amounts` for all of
//! them; [`profiles`] are links with names.
//! `scenarios/README.md` lists every key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hailer::daemon::Config;
use hailer::repeater::Place;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::fabric::nat::Policy;
pub use consul::Consul;

mod amounts;
mod churn;
mod consul;
mod docker;
mod faults;
mod file;
mod limits;
mod link;
mod machine;
mod names;
mod nat;
mod nodes;
pub mod profiles;
mod routes;
mod script;
mod segments;
mod sessions;
mod timeline;

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What the scenario shows, in a sentence or two.
    pub about: String,
    /// The seed when the command line names none.
    pub seed: u64,
    /// How long the world lives, in simulated time.
    pub duration: Duration,
    /// The step of the outer engine, in whole milliseconds. It changes nothing but speed.
    pub tick: Duration,
    /// Broadcast domains, in the order of the file.
    pub segments: Vec<Segment>,
    /// Nodes and after them containers, counts expanded, each in the order of the file; then routers, then Docker hosts.
    pub nodes: Vec<Node>,
    /// What happens, sorted by time; steps at the same moment keep the order of the file.
    pub steps: Vec<Step>,
    /// What else happens, drawn from the seed; [`Scenario::unrolled`] makes steps of it.
    pub churn: Vec<Churn>,
    /// Messages that nodes send all by themselves.
    pub traffic: Vec<Traffic>,
    /// What must be true.
    pub expects: Vec<Expect>,
    /// Consul agents.
    pub consuls: Vec<Consul>,
}

/// Index of a node in [`Scenario::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// Index of a segment in [`Scenario::segments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentIndex(pub u32);

/// A broadcast domain: what one switch or access point joins.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its name in the file.
    pub name: String,
    /// Its addresses.
    pub prefix: Ipv4Net,
    /// Its IPv6 addresses, when it has them; a /64 or shorter.
    pub prefix6: Option<Ipv6Net>,
    /// The link of every interface on it that names none of its own.
    pub link: Link,
    /// Whether its nodes resolve each other's names.
    pub has_names: bool,
    /// Further names that its nodes resolve, each with one address or several.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Names of services that its nodes resolve, each with hosts and ports.
    pub services: BTreeMap<String, Vec<Place>>,
    /// What it is made of.
    pub medium: Medium,
}

/// What a segment is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Medium {
    /// A switch or an access point.
    #[default]
    Lan,
    /// A bridge inside of a Docker host.
    Bridge {
        /// Whether its containers reach each other (`icc`).
        is_open: bool,
    },
    /// A bridge on each of several Docker hosts, with tunnels between them.
    Overlay,
}

/// The two directions of the cable between an interface and its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// From the node to the segment.
    pub up: Direction,
    /// From the segment to the node.
    pub down: Direction,
    /// The longest packet that the interface takes, in bytes from the IP header on; at least [`MTU_MIN`]. A longer
    /// datagram is sent in fragments, and TCP makes its segments fit.
    pub mtu: u16,
}

/// The MTU of Ethernet.
pub const MTU_DEFAULT: u16 = 1500;

/// What every machine on the Internet takes (RFC 791).
pub const MTU_MIN: u16 = 576;

/// What every link takes that carries IPv6 (RFC 8200).
pub const MTU6_MIN: u16 = 1280;

impl Default for Link {
    fn default() -> Self {
        Self { up: Direction::default(), down: Direction::default(), mtu: MTU_DEFAULT }
    }
}

/// What happens to packets in one direction of a link. Each chance is drawn for each packet by itself, those of loss and
/// damage for each fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// How long a packet takes.
    pub delay: Delay,
    /// How the delay changes from time to time for all packets.
    pub replan: Option<Replan>,
    /// How many packets never arrive.
    pub loss: Chance,
    /// When more packets than that never arrive.
    pub burst: Option<Burst>,
    /// How many packets arrive damaged, and are thrown away for their checksum.
    pub corruption: Chance,
    /// How many packets arrive twice, each copy with a delay of its own.
    pub duplicate: Chance,
    /// How many packets are held back by [`Direction::reorder_by`], so that later ones overtake them. Other packets
    /// never overtake each other, whatever their delays.
    pub reorder: Chance,
    /// How long a reordered packet is held back.
    pub reorder_by: Duration,
    /// Bits of packets that can leave in a second, from the IP header on; without it any number.
    pub bandwidth: Option<u64>,
    /// Bytes that may be there which have not left yet; see [`Direction::queue_bytes`].
    pub queue: Option<u64>,
}

impl Direction {
    /// Bytes that may be there which have not left yet: what the file says, or else a tenth of a second's worth, but not
    /// less than 32 KiB, about twenty long packets, and not more than 1 MiB.
    pub fn queue_bytes(&self) -> u64 {
        self.queue.unwrap_or_else(|| (self.bandwidth.unwrap_or(0) / 80).clamp(32 << 10, 1 << 20))
    }
}

/// Bad times of a link, in which it loses packets as [`Burst::loss`] says and not as [`Direction::loss`] does. Both kinds
/// of times have random lengths, exponentially distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How many packets are lost in a bad time.
    pub loss: Chance,
    /// The mean length of a good time; longer than zero.
    pub good: Duration,
    /// The mean length of a bad time; longer than zero.
    pub bad: Duration,
}

/// A path that is planned anew from time to time, such as one over satellites that move on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replan {
    /// How long a plan is in force, counted from the start of the world, at the same moments on every link; longer than
    /// zero.
    pub every: Duration,
    /// How much a plan changes the delay at most, to both sides; every change up to this is as likely as any other.
    pub spread: Duration,
}

/// A probability, in parts of a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance {
    /// 0 to 1,000,000.
    pub ppm: u32,
}

/// A distribution of delays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Every value from the first to the second is as likely as any other.
    Uniform(Duration, Duration),
    /// Bell-shaped around the mean, cut off at zero and at four deviations.
    Normal {
        /// The middle.
        mean: Duration,
        /// The standard deviation.
        deviation: Duration,
    },
    /// Measured quantiles at equal steps from the minimum to the maximum; values between them are interpolated.
    Empirical(Vec<Duration>),
}

impl Default for Delay {
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

/// A machine on the network.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its own name: `n07`, or the name in the file when that has no count.
    pub name: String,
    /// The name of the `[[node]]` table it came from: `n`.
    pub group: String,
    /// What kind of machine it is.
    pub kind: Kind,
    /// Its attachments; none for a container on its host's network, otherwise at least one.
    pub interfaces: Vec<Attachment>,
    /// When it is switched on for the first time.
    pub start: Duration,
    /// How far its clock is off from the start.
    pub clock: Clock,
    /// What runs on it: the daemon's own configuration.
    pub config: Config,
    /// Whose inbox it attacks instead: a machine that means harm.
    pub assault: Option<SocketAddr>,
    /// A program beside it sends back what it gets on this TCP port.
    pub echo: Option<u16>,
    /// Ports of its Docker host that lead to it.
    pub published: Vec<Published>,
    /// Its ways to other networks than those it is on; never two to the same.
    pub routes: Vec<Route>,
    /// How it translates addresses, if it is a router that does, as Docker hosts always do.
    pub nat: Option<Nat>,
}

/// What makes a router a NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// How it behaves.
    pub policy: Policy,
    /// The index of the interface that is the outside.
    pub outside: usize,
    /// Ports that lead inside; those of a Docker host do while the container runs that they lead to.
    pub forwards: Vec<Forward>,
    /// Of a Docker host: whether its engine runs its userland proxy.
    pub userland_proxy: Option<bool>,
}

/// A port of a NAT that leads inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Of which protocol.
    pub protocol: Protocol,
    /// The port at the outside address.
    pub port: u16,
    /// Who gets what comes there.
    pub to: SocketAddr,
}

/// What kind of machine a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It runs its program.
    Computer,
    /// It passes on what is not for it. Nothing runs on it.
    Router,
    /// It passes on what its containers send. Nothing runs on it but those.
    DockerHost,
    /// A container on this Docker host.
    Container(NodeIndex),
    /// A container that shares the network of this Docker host: a program of that machine.
    HostNetwork(NodeIndex),
}

impl Kind {
    /// Whether it passes on what is not for it; then it runs no program of its own.
    pub fn is_router(self) -> bool {
        matches!(self, Self::Router | Self::DockerHost)
    }

    /// The Docker host that it is on.
    pub fn docker_host(self) -> Option<NodeIndex> {
        match self {
            Self::Container(host) | Self::HostNetwork(host) => Some(host),
            Self::Computer | Self::Router | Self::DockerHost => None,
        }
    }
}

/// A port of a Docker host that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Of which protocol.
    pub protocol: Protocol,
    /// The host's port.
    pub port: u16,
    /// The container's port.
    pub to: u16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A way to a network that a machine is not on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which network; `0.0.0.0/0` and `::/0` are every other one.
    pub to: IpNet,
    /// The index of the interface that it leads out of.
    pub interface: usize,
    /// The router on that interface's segment that passes packets on.
    pub via: IpAddr,
}

/// How much faster than the true time a clock runs, in [`PARTS`]; slower when negative. Each node draws its own, and every
/// value from the first to the second is as likely as any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The least; at least half of [`PARTS`] below zero.
    pub from: i64,
    /// The greatest; at most half of [`PARTS`].
    pub to: i64,
}

/// A machine's clock when it is switched on for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// How fast it runs.
    pub drift: Drift,
    /// How far ahead of the true time it starts: each node draws its own of this range.
    pub skew: (Duration, Duration),
}

/// What a [`Drift`] is counted in: parts of a thousand million, a thousandth of a ppm.
pub const PARTS: i64 = 1_000_000_000;

/// An interface of a node.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The segment it is plugged into.
    pub segment: SegmentIndex,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its IPv6 address, when the segment has any. It has a link-local one beside it.
    pub address6: Option<Ipv6Addr>,
    /// Its cable.
    pub link: Link,
}

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
    /// The links of the node's interfaces, in their order, become these.
    Link(BTreeMap<NodeIndex, Vec<Link>>),
    /// The node's cables are pulled out of all its interfaces.
    Unplug,
    /// The node's cables are put back.
    Plug,
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
    /// A TCP session to this address, in which what is said comes back.
    Connect(std::net::SocketAddr),
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
