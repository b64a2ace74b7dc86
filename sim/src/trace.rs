//! What a run leaves behind: what every application saw and did, what the script did, and what the network carried.
//!
//! Checkers and reports read this and the scenario, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use hailer::Timestamp;
use hailer::zre::PeerId;

use crate::scenario::{Crash, NodeIndex};

mod group;
mod repeater;

pub use group::{GroupSubject, GroupWhat};
pub use repeater::RepeaterWhat;

/// One thing that happened on or to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// When, in simulated time since the start of the world.
    pub at: Timestamp,
    /// Where.
    pub node: NodeIndex,
    /// What.
    pub what: What,
}

/// One life of one node: a node that restarts is another peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A node of the scenario, and which of its lives (0 is the first).
    Life(NodeIndex, u32),
    /// An identity that no node of the scenario has had.
    Stranger(PeerId),
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// The script switched the node on; its life gets this number and, once its role runs, this identity.
    Up {
        /// 0 for the first life.
        life: u32,
        /// The identity of this life.
        peer: PeerId,
    },
    /// The script ended the node's life.
    Down(Crash),
    /// The script paused the node.
    Paused,
    /// The script let the node go on.
    Resumed,
    /// The application joined a group, because the script or the configuration said so.
    Joined(String),
    /// The application left a group.
    Left(String),
    /// The application shouted.
    SentShout {
        /// To this group.
        group: String,
        /// Which message of this life it is, counted over shouts and whispers together from 0.
        number: u64,
        /// Its size.
        bytes: usize,
    },
    /// The application whispered.
    SentWhisper {
        /// To this peer.
        to: Subject,
        /// Which message of this life it is.
        number: u64,
        /// Its size.
        bytes: usize,
    },
    /// The script wanted something that the node refused; the text says what and why.
    Refused(String),
    /// Event ENTER.
    Enter(Subject),
    /// Event EXIT, with the node's own reason for it in words.
    Exit(Subject, String),
    /// Event EVASIVE.
    Evasive(Subject),
    /// Event SILENT.
    Silent(Subject),
    /// Event JOIN.
    Join(Subject, String),
    /// Event LEAVE.
    Leave(Subject, String),
    /// Event SHOUT.
    GotShout {
        /// From this peer.
        from: Subject,
        /// To this group.
        group: String,
        /// The number the sender gave it; `None` when the content can't be read.
        number: Option<u64>,
        /// Whether every byte is as it was sent.
        is_intact: bool,
    },
    /// Event WHISPER.
    GotWhisper {
        /// From this peer.
        from: Subject,
        /// The number the sender gave it; `None` when the content can't be read.
        number: Option<u64>,
        /// Whether every byte is as it was sent.
        is_intact: bool,
    },
    /// A client opened a session, through a relay or not.
    SessionOpened {
        /// Which session of this life it is, counted with its messages from 0.
        number: u64,
        /// How much it says, and wants to hear again.
        bytes: usize,
    },
    /// A session is over.
    SessionEnded {
        /// Which.
        number: u64,
        /// Why what was said did not come back whole, or the session did not end as it should.
        problem: Option<String>,
    },
    /// Event STOP.
    Stopped,
    /// Something in the LAN group with this name.
    Group(String, GroupWhat),
    /// The script cut the node off from others; the text says how.
    Cut(String),
    /// The script undid what had cut the node off.
    Mended(String),
    /// Event LEADER: who leads the group.
    Leader(Subject, String),
    /// Something about a repeater.
    Repeater(RepeaterWhat),
}

/// What the network carried for one node, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Traffic {
    /// Packets and bytes (IP payload and headers) that the node sent, by kind.
    pub sent: BTreeMap<Kind, Count>,
    /// Packets and bytes that reached the node, by kind.
    pub received: BTreeMap<Kind, Count>,
    /// Packets that were on their way to or from the node and did not arrive, by cause.
    pub dropped: BTreeMap<Drop, Count>,
}

/// The most that a node did in a while, and when. What is not asked for by an expectation is not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Packets that it sent in any second.
    pub packets: Peak,
    /// Bytes that it sent in any second, IP and transport headers included.
    pub bytes: Peak,
    /// TCP connections that it accepted in any second: its answers to SYN, those that it repeats included.
    pub connections: Peak,
    /// Bytes of memory that its program held.
    pub memory: Peak,
}

/// The greatest of values, and when it was reached first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// The greatest value.
    pub most: u64,
    /// When. A value about a second is of the one that ends here.
    pub at: Timestamp,
}

/// Packets and their bytes. A datagram that was sent in fragments is one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP and transport headers included.
    pub bytes: u64,
}

/// Kinds of packets, as a person sorts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// UDP to port 5670 or whatever the beacon port is.
    Beacon,
    /// Other UDP.
    Udp,
    /// TCP with SYN.
    TcpHandshake,
    /// TCP with payload, sent for the first time.
    TcpData,
    /// TCP with payload that was sent before.
    TcpRetransmit,
    /// TCP without payload: acknowledgements, FIN.
    TcpControl,
    /// TCP with RST.
    TcpReset,
    /// ICMP: an error about another packet.
    Icmp,
}

impl Kind {
    /// All, in order.
    pub const ALL: [Self; 8] = [
        Self::Beacon,
        Self::Udp,
        Self::TcpHandshake,
        Self::TcpData,
        Self::TcpRetransmit,
        Self::TcpControl,
        Self::TcpReset,
        Self::Icmp,
    ];
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// The link lost it.
    Loss,
    /// Nobody has the address, or the machine is switched off.
    NoHost,
    /// No socket is bound to the port (UDP).
    NoSocket,
    /// The socket's receive queue was full.
    QueueFull,
    /// It came faster than the link could send, and found the link's queue full.
    LinkQueueFull,
    /// The link damaged it, so that it was thrown away at the other end for its checksum.
    Corrupt,
    /// A partition was between the sender and the receiver.
    Partition,
    /// The cable of the sender or the receiver was unplugged.
    Unplugged,
    /// The machine that it came to had no way on, or passes nothing on.
    NoRoute,
    /// It had passed as many routers as it may.
    Expired,
    /// It must not be cut, and was longer than the next link takes.
    TooLong,
    /// A NAT had no mapping for it.
    NatUnmapped,
    /// A NAT had a mapping for it, which its sender may not use.
    NatFiltered,
    /// A NAT did not believe that its connection could send it.
    NatInvalid,
    /// A NAT had forgotten its connection, or never knew it.
    NatForgotten,
    /// A NAT found no port for it.
    NatNoPort,
    /// Its sender had used all ports that a NAT gives to one machine.
    NatQuota,
    /// A NAT's table was full.
    NatTableFull,
    /// It came to a forwarded port whose machine talks to its sender already, by another port.
    NatTaken,
    /// Docker keeps those apart: containers of a closed bridge, two bridges, a bridge from what is outside, and the hosts of
    /// an overlay for what goes to many.
    Isolated,
}

impl Drop {
    /// All, in order.
    pub const ALL: [Self; 20] = [
        Self::Loss,
        Self::NoHost,
        Self::NoSocket,
        Self::QueueFull,
        Self::LinkQueueFull,
        Self::Corrupt,
        Self::Partition,
        Self::Unplugged,
        Self::NoRoute,
        Self::Expired,
        Self::TooLong,
        Self::NatUnmapped,
        Self::NatFiltered,
        Self::NatInvalid,
        Self::NatForgotten,
        Self::NatNoPort,
        Self::NatQuota,
        Self::NatTableFull,
        Self::NatTaken,
        Self::Isolated,
    ];
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The seed it ran with.
    pub seed: u64,
    /// How long the world lived, in simulated time.
    pub duration: Duration,
    /// Everything that happened, in order.
    pub records: Vec<Record>,
    /// What the network carried, one entry for each node of the scenario.
    pub traffic: Vec<Traffic>,
    /// The most that each node sent, one entry for each node of the scenario; empty when it was not measured.
    pub loads: Vec<Load>,
    /// Hash over every packet, every record and every counter, in hexadecimal: equal digests mean equal runs.
    pub digest: String,
}
