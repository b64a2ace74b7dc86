//! Routes and routers: by which interface a packet leaves a machine, and what becomes of one that is not for it.
//!
//! Every machine has a table: the networks its interfaces are on, and what [`Fabric::add_route`] adds. The longest prefix
//! wins; among equals the first that was added, so that of two interfaces on one network the first is used.
//!
//! [`Fabric::take_in`] is where a packet that came by an interface finds out whether it is for the machine itself;
//! [`Fabric::forward`] is the way of every packet that a router passes on. Broadcasts never pass, multicasts with a time
//! to live above one do: to all other segments of the router, and only when they came by the interface that leads back to
//! their sender, so that they go round in no circle.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::icmp::Problem;
use super::packet::Packet;
use super::six::{scope_of, stays_on_segment};
use super::{Fabric, GatewayId, HostId, InterfaceId};
use crate::trace::Drop;

/// What stays on its segment whatever its time to live (RFC 5771).
const LINK_LOCAL_GROUPS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 24);

/// An entry of a machine's routing table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    to: IpNet,
    hop: Hop,
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// Out of this interface,
    pub(super) interface: InterfaceId,
    /// to this neighbour; `None` to its own destination.
    pub(super) gateway: Option<GatewayId>,
}

impl Fabric {
    /// Lets a machine pass on what is not for it.
    pub fn make_router(&mut self, host: HostId) {
        self.hosts[host.index()].is_router = true;
    }

    /// Adds a way to other networks: out of `interface` to the neighbour `via`. `0.0.0.0/0` is everywhere.
    pub fn add_route(&mut self, to: IpNet, interface: InterfaceId, via: IpAddr) {
        let known = self.gateways.iter().position(|gateway| *gateway == via);
        let at = known.unwrap_or_else(|| {
            self.gateways.push(via);
            self.gateways.len() - 1
        });
        let hop = Hop { interface, gateway: Some(GatewayId(super::index(at))) };
        self.insert_route(Route { to, hop });
    }

    /// Adds the network that an interface is on.
    pub(super) fn add_connected_route(&mut self, to: IpNet, interface: InterfaceId) {
        self.insert_route(Route { to, hop: Hop { interface, gateway: None } });
    }

    fn insert_route(&mut self, route: Route) {
        let host = self.interfaces[route.hop.interface.index()].host;
        let routes = &mut self.hosts[host.index()].routes;
        let place = routes.partition_point(|other| other.to.prefix_len() >= route.to.prefix_len());
        routes.insert(place, route);
    }

    /// By which interface a packet leaves, and to whom. What goes to a segment as a whole leaves by the interface with the
    /// address `hint`, if there is one.
    pub(super) fn way_out(&self, host: HostId, to: SocketAddr, hint: Option<IpAddr>) -> Option<Hop> {
        if let SocketAddr::V6(to) = to
            && (to.ip().is_multicast() || to.ip().is_unicast_link_local())
        {
            return self.way_out_scoped(host, to, hint);
        }
        let to = to.ip();
        let machine = &self.hosts[host.index()];
        let route = || machine.routes.iter().find(|route| route.to.contains(&to)).map(|route| route.hop);
        if !to.is_multicast() && !matches!(to, IpAddr::V4(to) if to.is_broadcast()) {
            return route();
        }
        let own = &machine.interfaces;
        let hinted =
            own.iter().find(|id| hint.is_some_and(|hint| self.interfaces[id.index()].has(hint))).copied();
        let interface = hinted.or_else(|| route().map(|hop| hop.interface)).or_else(|| own.first().copied());
        interface.map(|interface| Hop { interface, gateway: None })
    }

    /// The address a packet to `to` carries as its source when its socket is not bound to one.
    ///
    /// # Errors
    /// `NetworkUnreachable` when no interface leads there, or the one that does has no address of the kind;
    /// `InvalidInput` for a link-local address without a scope.
    pub(super) fn source_for(
        &self,
        host: HostId,
        to: SocketAddr,
        hint: Option<IpAddr>,
    ) -> io::Result<IpAddr> {
        let address = to.ip();
        if address.is_loopback() || self.is_own_address(host, address) {
            return Ok(address);
        }
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) && scope_of(to) == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let hop = self.way_out(host, to, hint).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let source = self.interfaces[hop.interface.index()].source_to(address);
        Ok(source.ok_or(io::ErrorKind::NetworkUnreachable)?)
    }

    /// A packet has come to a machine by an interface: it is for the machine itself, or it goes on.
    pub(super) fn take_in(&mut self, host: HostId, entered: InterfaceId, packet: Packet) {
        let written = packet.to;
        let Some(packet) = self.translate_in(host, entered, packet) else { return };
        let is_let_in = packet.to != written;
        let to = packet.to.ip();
        let is_for_many = packet.is_multicast() || self.is_broadcast_on(entered, to);
        if to == IpAddr::V4(self.interfaces[entered.index()].address) {
            self.deliver(host, Some(entered), packet);
        } else if is_for_many || self.is_own_address(host, to) || self.is_broadcast_for(host, to) {
            if packet.is_multicast() && self.hosts[host.index()].is_router {
                self.forward_multicast(host, entered, &packet);
            }
            self.deliver(host, Some(entered), packet);
        } else if self.hosts[host.index()].is_router {
            self.forward(host, entered, is_let_in, packet);
        } else {
            self.counters.dropped(host, Drop::NoRoute, &packet);
        }
    }

    /// A router passes on a packet for one machine that came in by `entered`, where its NAT may have let it in.
    fn forward(&mut self, host: HostId, entered: InterfaceId, is_let_in: bool, mut packet: Packet) {
        let is_local = |address| matches!(address, IpAddr::V6(address) if stays_on_segment(address));
        if is_local(packet.to.ip()) || is_local(packet.from.ip()) {
            return self.counters.dropped(host, Drop::NoRoute, &packet);
        }
        if packet.ttl <= 1 {
            self.counters.dropped(host, Drop::Expired, &packet);
            return self.complain(host, Problem::TimeExceeded, packet);
        }
        let Some(hop) = self.way_out(host, packet.to, None) else {
            self.counters.dropped(host, Drop::NoRoute, &packet);
            return self.complain(host, Problem::NetworkUnreachable, packet);
        };
        if !is_let_in && !self.may_pass(entered, hop.interface) {
            return self.counters.dropped(host, Drop::Isolated, &packet);
        }
        packet.cut_for(self.interfaces[entered.index()].mtu);
        let mtu = self.interfaces[hop.interface.index()].mtu;
        if !packet.may_pass(mtu) {
            self.counters.dropped(host, Drop::TooLong, &packet);
            return self.complain(host, Problem::TooLong { mtu }, packet);
        }
        packet.ttl -= 1;
        if let Some(packet) = self.translate_out(host, Some(entered), hop.interface, packet) {
            self.leave(host, hop, packet);
        }
    }

    /// A router passes a multicast on to its other segments.
    fn forward_multicast(&mut self, host: HostId, entered: InterfaceId, packet: &Packet) {
        let stays = match packet.to.ip() {
            IpAddr::V4(to) => LINK_LOCAL_GROUPS.contains(&to),
            IpAddr::V6(to) => stays_on_segment(to),
        };
        if packet.ttl <= 1 || stays {
            return;
        }
        let back = self.way_out(host, packet.from, None);
        if back.is_none_or(|back| back.interface != entered) {
            return;
        }
        for interface in self.hosts[host.index()].interfaces.clone() {
            if interface != entered
                && self.may_pass(entered, interface)
                && !self.parts_multicasts(host, entered, interface)
            {
                let mut packet = packet.clone();
                packet.ttl -= 1;
                packet.cut_for(self.interfaces[entered.index()].mtu);
                self.leave(host, Hop { interface, gateway: None }, packet);
            }
        }
    }
}
