//! What a NAT is asked about a packet, and what it answers.

use std::net::SocketAddr;

use super::tcp_state::TcpSignal;

/// What a NAT can translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// ICMP queries: the identifier is the inside end's port, and the outside end's is 0.
    Icmp,
}

impl From<crate::scenario::Protocol> for Protocol {
    fn from(protocol: crate::scenario::Protocol) -> Self {
        match protocol {
            crate::scenario::Protocol::Tcp => Self::Tcp,
            crate::scenario::Protocol::Udp => Self::Udp,
        }
    }
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// By which protocol.
    pub protocol: Protocol,
    /// The packet's source.
    pub from: SocketAddr,
    /// The packet's destination.
    pub to: SocketAddr,
}

/// What a packet says to a NAT besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// UDP and ICMP: that it is there.
    Datagram,
    /// TCP: the state of its connection.
    Segment(TcpSignal),
}

/// What becomes of a packet from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// It goes on to this inside end, or to this one of the router's own that had sent something.
    Forward(SocketAddr),
    /// It belongs to nothing, and the router takes it as its own.
    Local,
    /// It goes nowhere.
    Drop(Refusal),
}

/// Why a packet does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// From outside: no mapping has this address and port.
    Unmapped,
    /// From outside: there is a mapping, but this sender may not use it.
    Filtered,
    /// TCP that its connection can't send now, or of which nothing can be told.
    Invalid,
    /// TCP from inside whose session was forgotten. With [`MidConnection::Reset`] its sender gets a reset.
    Forgotten,
    /// No port was found.
    NoPort,
    /// The inside address has used all of its ports.
    Quota,
    /// The table is full of sessions that do not make way.
    TableFull,
    /// From inside to an outside address of the NAT, which does not hairpin: it is for the router itself.
    NoHairpin,
    /// From outside to a forwarded port: its inside end talks to this sender already, by another outside port.
    Taken,
}
