//! What Docker makes of a network: bridges inside a machine, and overlays that tunnel from bridge to bridge.
//!
//! A container is a machine of its own here, plugged into a bridge that its Docker host is plugged into, too; the host
//! routes and translates as any router with NAT does. This file has what is particular:
//!
//! * a bridge can keep its containers apart (`icc`), and the host never passes on from one bridge to another;
//! * an overlay is a bridge on each of several hosts. What goes to a container on another host travels in a datagram from
//!   host to host (VXLAN, RFC 7348) and meets whatever is between them. Broadcasts and multicasts stay on their host;
//! * names: the engine answers for the containers of a network and asks its machine's network for the rest.
//!
//! Not here: the host's NAT and its published ports (`translate`), and the proxy process by which the containers of a host
//! reach each other's published ports.

use std::net::{IpAddr, SocketAddr};

use super::packet::{Body, Packet};
use super::{Fabric, HostId, InterfaceId, SegmentId};
use crate::scenario::Medium;
use crate::trace::Drop;

/// The port of VXLAN.
const VXLAN_PORT: u16 = 4789;
/// What VXLAN adds to the inner packet inside of its datagram: its own header and an Ethernet header.
pub(super) const VXLAN_BYTES: usize = 8 + 14;
/// The number of the first overlay; Docker counts from here.
pub(super) const VNI_FIRST: u32 = 4096;

/// A packet in a tunnel.
#[derive(Clone, Debug)]
pub struct Tunnelled {
    /// Between which interfaces.
    pub(super) from: InterfaceId,
    pub(super) to: InterfaceId,
    /// The overlay that it travels on.
    pub(super) segment: SegmentId,
    pub(super) packet: Packet,
}

impl Fabric {
    /// Says what a segment is made of. Machines on it resolve each other's names only if `has_names`.
    pub fn set_medium(&mut self, segment: SegmentId, medium: Medium, has_names: bool) {
        let segment = &mut self.segments[segment.0 as usize];
        segment.medium = medium;
        segment.has_names = has_names;
    }

    /// Says on which Docker host a container is: its tunnels begin there, and names that its own networks don't have are
    /// looked up there.
    pub fn put_on_docker_host(&mut self, container: HostId, docker_host: HostId) {
        self.hosts[container.index()].docker_host = Some(docker_host);
    }

    /// Whether a bridge keeps the packets of one of its members from another, or an overlay those for many. The Docker host
    /// itself reaches all.
    pub(super) fn keeps_apart(&self, from: InterfaceId, to: InterfaceId, is_for_many: bool) -> bool {
        let medium = self.segments[self.interfaces[from.index()].segment.0 as usize].medium;
        match medium {
            Medium::Lan | Medium::Bridge { is_open: true } => false,
            Medium::Bridge { is_open: false } => {
                self.docker_host_of(from).is_some() && self.docker_host_of(to).is_some()
            }
            Medium::Overlay => is_for_many && self.docker_host_of(from) != self.docker_host_of(to),
        }
    }

    /// Whether a Docker host may pass on from one of its interfaces to another: only out of its bridges, as nobody
    /// outside and no other bridge gets into one but by a published port.
    pub(super) fn may_pass(&self, entered: InterfaceId, leaves: InterfaceId) -> bool {
        let medium = |id: InterfaceId| self.segments[self.interfaces[id.index()].segment.0 as usize].medium;
        entered == leaves || !matches!(medium(leaves), Medium::Bridge { .. })
    }

    /// Sends a packet for a container on another host through the tunnel to that. `false` when it is on the same.
    pub(super) fn tunnel(&mut self, from: InterfaceId, to: InterfaceId, packet: &Packet) -> bool {
        let segment = self.interfaces[from.index()].segment;
        if self.segments[segment.0 as usize].medium != Medium::Overlay {
            return false;
        }
        let (Some(near), Some(far)) = (self.docker_host_of(from), self.docker_host_of(to)) else {
            return false;
        };
        if near == far {
            return false;
        }
        let (Some(own), Some(other)) = (self.underlay_address(near), self.underlay_address(far)) else {
            self.counters.dropped(near, Drop::NoRoute, packet);
            return true;
        };
        // The source port tells flows apart for those that balance load; here nobody does.
        let ports = (SocketAddr::new(own, VXLAN_PORT), SocketAddr::new(other, VXLAN_PORT));
        let tunnelled = Tunnelled { from, to, segment, packet: packet.clone() };
        let outer = Packet::new(ports.0, ports.1, Body::Vxlan(Box::new(tunnelled)));
        // Without a way there nobody hears of it, as with any datagram of a kernel's own.
        let _ = self.transmit(near, outer, Some(own));
        true
    }

    /// A packet has come out of a tunnel.
    pub(super) fn untunnel(&mut self, tunnelled: Tunnelled) {
        let Tunnelled { from, to, packet, .. } = tunnelled;
        let mtu = self.interfaces[from.index()].mtu;
        if self.interfaces[to.index()].answers {
            self.send_down(to, mtu, packet);
        } else {
            self.counters.dropped(self.interfaces[to.index()].host, Drop::NoHost, &packet);
        }
    }

    pub(super) fn docker_host_of(&self, interface: InterfaceId) -> Option<HostId> {
        self.hosts[self.interfaces[interface.index()].host.index()].docker_host
    }

    /// The address that a Docker host is known by to others: that of its first interface which is on no bridge.
    fn underlay_address(&self, docker_host: HostId) -> Option<IpAddr> {
        let mut own =
            self.hosts[docker_host.index()].interfaces.iter().map(|id| &self.interfaces[id.index()]);
        let is_outer = |segment: SegmentId| self.segments[segment.0 as usize].medium == Medium::Lan;
        own.find(|own| is_outer(own.segment)).map(|own| IpAddr::V4(own.address))
    }
}
