//! Published ports of a Docker host, as its own containers and its own programs reach them.
//!
//! Who comes from outside is let in by the NAT (`translate`). For all others it matters whether the engine's userland proxy
//! runs, which is a program of the host (`world::proxy`):
//!
//! * with it, what comes from any bridge to any address of the host is the host's own, and so the proxy's. What the host
//!   sends to an address of its own other than the loopback goes to the container, as its own;
//! * without it, what comes from a bridge is translated and sent back to that bridge; to another bridge nothing passes. Of
//!   machines on the same bridge the container sees the addresses, of itself and of the host that of its gateway. As the
//!   answers would take the short way over the bridge, the host translates what crosses the bridge, too (`br_netfilter`).
//!
//! Engines masquerade what has an address of one of their networks and leaves by another interface than its bridge. The
//! host's own packets are no exception: at a bridge's address it meets itself with the address of its outside.
//!
//! `examples/docker_fidelity` holds all of that to a real engine. Left out, as it is there: newer engines than 28 let what is
//! published through from bridge to bridge without the proxy, too.

use std::net::{IpAddr, SocketAddr};

use super::nat::{Flow, Refusal};
use super::packet::Packet;
use super::translate::{Question, Translation, question, set_quoted};
use super::{Fabric, HostId, InterfaceId};
use crate::scenario::Medium;
use crate::trace::Drop;

impl Fabric {
    /// Makes a machine that translates one with published ports: those that are forwarded are so at all of its addresses.
    pub fn publish_ports(&mut self, host: HostId, has_proxy: bool) {
        if let Some(translation) = &mut self.hosts[host.index()].translation {
            translation.has_proxy = Some(has_proxy);
        }
    }

    /// A packet has come by a bridge, to one of the Docker host's own addresses: as what it goes on.
    pub(super) fn publish_in(
        &mut self,
        host: HostId,
        entered: InterfaceId,
        mut packet: Packet,
    ) -> Option<Packet> {
        let now = self.now;
        let translation = self.hosts[host.index()].translation.as_mut()?;
        let (flow, signal) = match question(&packet) {
            Question::Error(quoted) => {
                if let Some(sent) = translation.nat.as_published(now, &quoted) {
                    packet.from = SocketAddr::new(sent.to.ip(), 0);
                    packet.to = SocketAddr::new(sent.from.ip(), 0);
                    set_quoted(&mut packet, sent);
                }
                return Some(packet);
            }
            Question::Packet(flow, signal) => (flow, signal),
        };
        match translation.nat.answer(now, &flow, &signal) {
            Ok(None) => {}
            Ok(Some(flow)) => return Some(readdressed(packet, flow)),
            Err(refusal) => return self.refused(host, refusal, packet),
        }
        let to = translation.nat.published_to(flow.protocol, flow.to.port());
        let (Some(to), Some(false)) = (to, translation.has_proxy) else { return Some(packet) };
        let leaves = self.way_out(host, to, None).map(|hop| hop.interface);
        let bridge = &self.interfaces[entered.index()];
        let medium = self.segments[bridge.segment.0 as usize].medium;
        if leaves != Some(entered) || medium == (Medium::Bridge { is_open: false }) {
            self.counters.dropped(host, Drop::Isolated, &packet);
            return None;
        }
        let shown = Some(IpAddr::V4(bridge.address)).filter(|_| flow.from.ip() == to.ip());
        let nat = &mut self.hosts[host.index()].translation.as_mut()?.nat;
        match nat.publish(now, &flow, &signal, to, shown) {
            Ok(None) => Some(packet),
            Ok(Some(flow)) => Some(readdressed(packet, flow)),
            Err(refusal) => self.refused(host, refusal, packet),
        }
    }

    /// A packet of a machine to itself: as what it leaves, when it is for a published port, or else as what it gets.
    pub(super) fn publish_own(&mut self, host: HostId, packet: Packet) -> Result<Packet, Packet> {
        let now = self.now;
        let machine = &mut self.hosts[host.index()];
        let Some(Translation { nat, has_proxy: Some(has_proxy), address, .. }) =
            machine.translation.as_deref_mut()
        else {
            return Err(packet);
        };
        let (has_proxy, outside) = (*has_proxy, *address);
        let Question::Packet(flow, signal) = question(&packet) else { return Err(packet) };
        if packet.to.is_ipv6() {
            return Err(packet);
        }
        if let Ok(Some(flow)) = nat.answer(now, &flow, &signal) {
            return Err(readdressed(packet, flow));
        }
        let is_reachable = !packet.to.ip().is_loopback() || !has_proxy;
        let container = nat.published_to(flow.protocol, flow.to.port()).filter(|_| is_reachable);
        let leaves = container.and_then(|container| self.way_out(host, container, None));
        let source = self.bridge_with(host, flow.from.ip());
        let (inside, shown) = match (container, leaves) {
            (Some(container), Some(hop)) => {
                // Engines masquerade what has the address of a bridge and leaves by another interface.
                let is_shown = !has_proxy || source.is_some_and(|source| source != hop.interface);
                let gateway = IpAddr::V4(self.interfaces[hop.interface.index()].address);
                (container, is_shown.then_some(gateway))
            }
            // The loopback is another interface, too.
            _ if source.is_some() => (flow.to, Some(outside)),
            _ => return Err(packet),
        };
        let Some(translation) = &mut self.hosts[host.index()].translation else { return Err(packet) };
        match translation.nat.publish(now, &flow, &signal, inside, shown) {
            Ok(Some(flow)) if Some(inside) == container => Ok(readdressed(packet, flow)),
            Ok(Some(flow)) => Err(readdressed(packet, flow)),
            Ok(None) | Err(_) => Err(packet),
        }
    }

    /// The bridge on which a Docker host has an address.
    fn bridge_with(&self, host: HostId, address: IpAddr) -> Option<InterfaceId> {
        let is_it = |id: &&InterfaceId| {
            let own = &self.interfaces[id.index()];
            let medium = self.segments[own.segment.0 as usize].medium;
            own.has(address) && matches!(medium, Medium::Bridge { .. })
        };
        self.hosts[host.index()].interfaces.iter().find(is_it).copied()
    }

    /// A packet crosses a bridge from one container to another: without the proxy it may be the answer to one that came by
    /// a published port.
    pub(super) fn publish_across(&mut self, from: InterfaceId, to: InterfaceId, packet: Packet) -> Packet {
        let now = self.now;
        let bridge = &self.segments[self.interfaces[from.index()].segment.0 as usize];
        if !matches!(bridge.medium, Medium::Bridge { .. }) || packet.to.is_ipv6() {
            return packet;
        }
        let docker_host = self.docker_host_of(from);
        if docker_host != self.docker_host_of(to) {
            return packet;
        }
        let translation = docker_host.and_then(|host| self.hosts[host.index()].translation.as_mut());
        let Some(Translation { nat, has_proxy: Some(false), .. }) = translation.map(AsMut::as_mut) else {
            return packet;
        };
        let Question::Packet(flow, signal) = question(&packet) else { return packet };
        match nat.answer(now, &flow, &signal) {
            Ok(Some(flow)) => readdressed(packet, flow),
            Ok(None) | Err(_) => packet,
        }
    }

    fn refused(&mut self, host: HostId, refusal: Refusal, packet: Packet) -> Option<Packet> {
        self.refuse(host, refusal, packet);
        None
    }
}

fn readdressed(mut packet: Packet, flow: Flow) -> Packet {
    (packet.from, packet.to) = (flow.from, flow.to);
    packet
}
