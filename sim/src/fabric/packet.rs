//! What travels: structured packets, with the sizes that real ones would have.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::tcp::Segment;
use crate::trace::Kind;

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Sender's address and port.
    pub from: SocketAddr,
    /// Receiver's address and port.
    pub to: SocketAddr,
    /// What it carries.
    pub body: Body,
}

/// The transport inside a packet.
#[derive(Clone, Debug)]
pub enum Body {
    /// A datagram's payload.
    Udp(Bytes),
    /// A TCP segment, boxed so that the many small datagrams stay small.
    Tcp(Box<Segment>),
}

/// Bytes of an IPv4 header without options.
const IPV4_HEADER_BYTES: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER_BYTES: usize = 40;
/// Bytes of a UDP header.
const UDP_HEADER_BYTES: usize = 8;

impl Packet {
    /// Bytes on the wire, from the IP header on.
    pub fn wire_len(&self) -> usize {
        let ip = if self.to.is_ipv4() { IPV4_HEADER_BYTES } else { IPV6_HEADER_BYTES };
        ip + match &self.body {
            Body::Udp(payload) => UDP_HEADER_BYTES + payload.len(),
            Body::Tcp(segment) => segment.wire_len(),
        }
    }

    /// How the report sorts it.
    pub fn kind(&self, beacon_port: u16) -> Kind {
        match &self.body {
            Body::Udp(_) if self.to.port() == beacon_port => Kind::Beacon,
            Body::Udp(_) => Kind::Udp,
            Body::Tcp(segment) if segment.rst => Kind::TcpReset,
            Body::Tcp(segment) if segment.syn => Kind::TcpHandshake,
            Body::Tcp(segment) if segment.payload.is_empty() => Kind::TcpControl,
            Body::Tcp(segment) if segment.is_retransmission => Kind::TcpRetransmit,
            Body::Tcp(_) => Kind::TcpData,
        }
    }

    /// Whether it goes to one machine, as far as the address alone tells (a directed broadcast looks like one).
    pub fn is_multicast(&self) -> bool {
        self.to.ip().is_multicast()
    }

    /// Whether it goes to the limited broadcast address.
    pub fn is_limited_broadcast(&self) -> bool {
        matches!(self.to.ip(), IpAddr::V4(address) if address.is_broadcast())
    }
}
