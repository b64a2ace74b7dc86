//! How one ZRE node behaves: complete values, nothing left to decide.

use std::time::Duration;

use super::liveness::ANSWER_TIME;
use super::{Endpoint, Headers, PeerId, Text};

/// The settings of a node. [`Config::default`] is what zyre does by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name peers see; without one, the first six hexadecimal digits of the identity.
    pub name: Option<Text>,
    /// The identity; without one, a new random one at each start, so that peers can tell a restart.
    pub identity: Option<PeerId>,
    /// Facts told to every peer.
    pub headers: Headers,
    /// Groups joined from the start.
    pub groups: Vec<Text>,
    /// Groups in whose elections this node stands for leader. See [`Event::Leader`](super::Event::Leader).
    pub contest: Vec<Text>,
    /// The interfaces to use, each by its name, its index or one of its addresses, or `*` for all but loopbacks and
    /// tunnels. Without any, the first that is up, is not a loopback or a tunnel, and can broadcast. Those that are not there
    /// are taken when they appear, as long as one is there at the start.
    pub interfaces: Vec<String>,
    /// Use IPv6 beside IPv4, on the same interfaces: the link-local address, and one that routers know, if there is any.
    pub ipv6: bool,
    /// Which broadcast beacons go to.
    pub broadcast: Broadcast,
    /// Whether beacons are heard and sent on the multicast groups of hzre, gyre and go-zyre.
    pub multicast: Multicast,
    /// Whether beacons are sent and heard. Without them, nodes are found by gossip, as static peers, or find us.
    pub beacon: bool,
    /// Gossip hubs through which nodes find each other, beside whatever else there is.
    pub gossip: Vec<Endpoint>,
    /// Places where a node is, whoever it is: they are connected to without anybody telling of them.
    pub peers: Vec<Endpoint>,
    /// Where peers are told to reach us, instead of where we listen: the outside of a NAT, or a name.
    pub advertise: Option<Endpoint>,
    /// UDP port of beacons. 5670 is registered for ZRE; another port isolates a network.
    pub port: u16,
    /// TCP port to listen on; 0 takes the first free one from 49152 on, as zyre does.
    pub tcp_port: u16,
    /// Time between two beacons.
    pub interval: Duration,
    /// A peer that was quiet for this long is asked for a sign of life.
    pub evasive: Duration,
    /// A peer that was quiet for this long is reported as silent.
    pub silent: Duration,
    /// A peer that was quiet for this long is gone.
    pub expired: Duration,
}

/// Which broadcast address beacons go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Broadcast {
    /// That of the interface's network, as zyre and pyre do; where it has none, the limited one.
    #[default]
    Directed,
    /// 255.255.255.255, as zyre does with the interface `*`.
    Limited,
    /// Both, for networks where some nodes or switches mind one of them.
    Both,
    /// None: beacons go to multicast groups alone, over IPv4 to those of [`Multicast`].
    Never,
}

/// What is done about the multicast groups that some implementations beacon to: 225.25.25.25 (the Haskell tools),
/// 224.0.0.250 (gyre) and 224.0.0.1 (go-zyre).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Multicast {
    /// Listen, and send to a group for as long as a peer that is no Hailer beacons there.
    #[default]
    Auto,
    /// Listen, and send to all of them.
    Always,
    /// Neither.
    Never,
}

impl Config {
    /// How often a running node looks whether the machine's addresses have changed.
    pub const INTERFACES_CHECK_INTERVAL: Duration = Duration::from_secs(2);
    /// The UDP port registered for ZRE beacons (RFC 36).
    pub const PORT: u16 = 5670;
    /// First TCP port that is tried when none is given: the first dynamic port, as czmq does.
    pub const TCP_PORT_FIRST: u16 = 49152;

    /// How long a peer is quiet before it may be gone at the earliest: it is asked after [`Config::evasive`], and when it
    /// has not answered, looked for. Without its machine there it is gone; otherwise after [`Config::expired`].
    pub fn gone_after(&self) -> Duration {
        self.expired.min(self.evasive + ANSWER_TIME)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            identity: None,
            headers: Headers::new(),
            groups: Vec::new(),
            contest: Vec::new(),
            interfaces: Vec::new(),
            ipv6: false,
            broadcast: Broadcast::Directed,
            multicast: Multicast::Auto,
            beacon: true,
            gossip: Vec::new(),
            peers: Vec::new(),
            advertise: None,
            port: Self::PORT,
            tcp_port: 0,
            interval: Duration::from_secs(1),
            evasive: Duration::from_secs(5),
            silent: Duration::from_secs(10),
            expired: Duration::from_secs(30),
        }
    }
}
