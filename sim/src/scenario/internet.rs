//! What the small internet of a scenario is made of: segments, links, nodes and how they are attached, routes, NAT, clocks.
//!
//! Resolved, as everything that a [`Scenario`](super::Scenario) has; how a file becomes it is the business of the other files.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hailer::daemon::Config;
use hailer::repeater::Place;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::fabric::nat::Policy;

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
