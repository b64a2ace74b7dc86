//! What travels: structured packets, with the sizes that real ones would have.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::docker::{Tunnelled, VXLAN_BYTES};
use super::icmp::Icmp;
use super::tcp::Segment;
use crate::trace::Kind;

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Sender's address and port.
    pub from: SocketAddr,
    /// Receiver's address and port.
    pub to: SocketAddr,
    /// How many routers may still pass it on, and one.
    pub ttl: u8,
    /// The lowest MTU that it was cut for on its way so far.
    cut: u16,
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
    /// An error about another packet. It has no ports: they are 0.
    Icmp(Box<Icmp>),
    /// A datagram from Docker host to Docker host with a packet of an overlay inside.
    Vxlan(Box<Tunnelled>),
}

/// What a packet is on a link: itself, or the fragments that it was cut into because it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// How many there are, at least one.
    pub count: u32,
    /// Bytes on the wire of each but the last.
    pub each: u32,
    /// Bytes on the wire of the last, or of the only one.
    pub last: u32,
}

impl Pieces {
    /// A packet of `len` bytes that fits.
    pub const fn whole(len: u32) -> Self {
        Self { count: 1, each: 0, last: len }
    }
}

/// Bytes of an IPv4 header without options.
const IPV4_HEADER_BYTES: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER_BYTES: usize = 40;
/// Bytes of the header that makes an IPv6 packet a fragment.
const IPV6_FRAGMENT_HEADER_BYTES: usize = 8;
/// Bytes of a UDP header.
const UDP_HEADER_BYTES: usize = 8;

/// What Linux sends with.
const TIME_TO_LIVE: u8 = 64;

impl Packet {
    /// A packet as its sender makes it.
    pub const fn new(from: SocketAddr, to: SocketAddr, body: Body) -> Self {
        Self { from, to, ttl: TIME_TO_LIVE, cut: u16::MAX, body }
    }

    /// It passes a link with this MTU; the pieces it was cut into stay that small.
    pub(super) fn cut_for(&mut self, mtu: u16) {
        self.cut = self.cut.min(mtu);
    }

    /// Bytes on the wire, from the IP header on.
    pub fn wire_len(&self) -> usize {
        let ip = if self.to.is_ipv4() { IPV4_HEADER_BYTES } else { IPV6_HEADER_BYTES };
        ip + match &self.body {
            Body::Udp(payload) => UDP_HEADER_BYTES + payload.len(),
            Body::Tcp(segment) => segment.wire_len(),
            Body::Icmp(icmp) => icmp.wire_len(),
            Body::Vxlan(inner) => UDP_HEADER_BYTES + VXLAN_BYTES + inner.packet.wire_len(),
        }
    }

    /// What it is on a link with this MTU, which is at least 68. Only datagrams are cut: TCP makes no segment that is too
    /// long for either end, and forbids fragments; an ICMP error fits everywhere. What was cut before it came into a tunnel
    /// stays cut there, each piece in a datagram of its own.
    pub fn pieces(&self, mtu: u16) -> Pieces {
        if let Body::Vxlan(inner) = &self.body {
            let around = (self.wire_len() - inner.packet.wire_len()) as u32;
            let Pieces { count, each, last } = inner.packet.pieces(u16::MAX);
            let tunnelled = Pieces { count, each: each + around, last: last + around };
            if tunnelled.each.max(tunnelled.last) <= u32::from(mtu.min(self.cut)) {
                return tunnelled;
            }
        }
        let (len, mtu) = (self.wire_len(), usize::from(mtu.min(self.cut)));
        if len <= mtu || !matches!(self.body, Body::Udp(_) | Body::Vxlan(_)) {
            return Pieces::whole(len as u32);
        }
        // Offsets count in eights of bytes (RFC 791). In IPv6 every fragment has a header more.
        let (own, each) = if self.to.is_ipv4() {
            (IPV4_HEADER_BYTES, IPV4_HEADER_BYTES)
        } else {
            (IPV6_HEADER_BYTES, IPV6_HEADER_BYTES + IPV6_FRAGMENT_HEADER_BYTES)
        };
        let room = (mtu.saturating_sub(each) / 8).max(1) * 8;
        let body = len - own;
        let count = body.div_ceil(room);
        let last = body - (count - 1) * room;
        Pieces { count: count as u32, each: (each + room) as u32, last: (each + last) as u32 }
    }

    /// Whether a router may pass it on to a link with this MTU: IPv6 is cut by its sender alone, TCP by nobody.
    pub(super) fn may_pass(&self, mtu: u16) -> bool {
        let longest = self.wire_len().min(usize::from(self.cut));
        let is_cut_here = self.to.is_ipv4() && matches!(self.body, Body::Udp(_));
        is_cut_here || longest <= usize::from(mtu)
    }

    /// How the report sorts it.
    pub fn kind(&self, beacon_port: u16) -> Kind {
        match &self.body {
            Body::Udp(_) if self.to.port() == beacon_port => Kind::Beacon,
            Body::Udp(_) | Body::Vxlan(_) => Kind::Udp,
            Body::Tcp(segment) if segment.rst => Kind::TcpReset,
            Body::Tcp(segment) if segment.syn => Kind::TcpHandshake,
            Body::Tcp(segment) if segment.payload.is_empty() => Kind::TcpControl,
            Body::Tcp(segment) if segment.is_retransmission => Kind::TcpRetransmit,
            Body::Tcp(_) => Kind::TcpData,
            Body::Icmp(_) => Kind::Icmp,
        }
    }

    /// Whether it accepts a TCP connection.
    pub fn is_syn_ack(&self) -> bool {
        matches!(&self.body, Body::Tcp(segment) if segment.syn && segment.ack.is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(to: &str, len: usize) -> Packet {
        let to = to.parse().unwrap();
        Packet::new(to, to, Body::Udp(Bytes::from(vec![0; len])))
    }

    #[test]
    fn a_datagram_is_cut_as_linux_cuts_it() {
        // `ping -s 3992`, whose ICMP header is as long as UDP's, on Ethernet: 1500, 1500 and 1060 bytes.
        let pieces = datagram("10.0.0.1:1", 3992).pieces(1500);
        assert_eq!(pieces, Pieces { count: 3, each: 1500, last: 1060 });
        assert_eq!(datagram("10.0.0.1:1", 1472).pieces(1500), Pieces::whole(1500));
        assert_eq!(datagram("10.0.0.1:1", 1473).pieces(1500), Pieces { count: 2, each: 1500, last: 21 });
        // 1400 less the header is not a multiple of eight.
        assert_eq!(datagram("10.0.0.1:1", 1400).pieces(1400), Pieces { count: 2, each: 1396, last: 52 });
        assert_eq!(datagram("[fd00::1]:1", 1453).pieces(1500), Pieces { count: 2, each: 1496, last: 61 });
        assert_eq!(datagram("10.0.0.1:1", 65_507).pieces(1500).count, 45);
    }

    #[test]
    fn tcp_is_never_cut() {
        let to = "10.0.0.1:1".parse().unwrap();
        let segment = Segment { payload: Bytes::from(vec![0; 4000]), ..Segment::default() };
        let packet = Packet::new(to, to, Body::Tcp(Box::new(segment)));
        assert_eq!(packet.pieces(1500), Pieces::whole(4040));
    }
}
