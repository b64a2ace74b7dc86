//! The way of a packet: out of a machine, over the segment, into the machines that are meant.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hailer::Timestamp;

use super::faults::Partition;
use super::packet::{Body, Packet};
use super::queue::Queue;
use super::route::Hop;
use super::{Event, Fabric, HostId, Interface, InterfaceId, Segment};
use crate::trace::Drop;

/// How long a packet takes that never leaves its machine.
const SELF_DELAY: Duration = Duration::from_micros(10);

impl Fabric {
    /// Sends a packet. Where it has to leave by `hint` (a source address), it does.
    ///
    /// # Errors
    /// `NetworkUnreachable` when no interface leads to the destination.
    pub(super) fn transmit(
        &mut self,
        host: HostId,
        mut packet: Packet,
        hint: Option<IpAddr>,
    ) -> io::Result<()> {
        if self.is_own_address(host, packet.to.ip()) {
            match self.publish_own(host, packet) {
                Ok(published) => packet = published,
                Err(own) => {
                    self.queue.push(self.now.after(SELF_DELAY), Event::AtSelf(host, own));
                    return Ok(());
                }
            }
        }
        let hop = self.way_out(host, packet.to, hint).ok_or(io::ErrorKind::NetworkUnreachable)?;
        if self.is_for_segment(hop, &packet) {
            // Linux hands a machine its own broadcasts, and its own multicasts unless told not to.
            self.queue.push(self.now.after(SELF_DELAY), Event::AtSelf(host, packet.clone()));
            if packet.ttl == 0 {
                return Ok(());
            }
            self.leave(host, hop, packet);
        } else if let Some(packet) = self.translate_out(host, None, hop.interface, packet) {
            self.leave(host, hop, packet);
        }
        Ok(())
    }

    /// Whether a packet that takes this hop goes to everybody on the segment.
    fn is_for_segment(&self, hop: Hop, packet: &Packet) -> bool {
        let segment = self.interfaces[hop.interface.index()].segment;
        let prefix = self.segments[segment.0 as usize].prefix;
        hop.gateway.is_none() && (packet.is_multicast() || is_broadcast(packet.to.ip(), prefix.broadcast()))
    }

    /// A packet leaves a machine, be it the machine's own or one that it passes on.
    pub(super) fn leave(&mut self, host: HostId, hop: Hop, mut packet: Packet) {
        let Hop { interface: id, gateway } = hop;
        if !self.interfaces[id.index()].is_plugged {
            if self.is_for_segment(hop, &packet) {
                return self.counters.dropped(host, Drop::Unplugged, &packet);
            }
            let neighbour = gateway.map_or(packet.to.ip(), |gateway| self.gateways[gateway.0 as usize]);
            return self.seek(id, neighbour, packet);
        }
        self.counters.sent(host, id, &packet);
        let interface = &mut self.interfaces[id.index()];
        packet.cut_for(interface.mtu);
        let arrivals = interface.up.send(self.now, packet.pieces(interface.mtu));
        let event = |packet| match gateway {
            None => Event::AtSegment(id, packet),
            Some(gateway) => Event::ToGateway(id, gateway, packet),
        };
        match arrivals {
            Err(cause) => self.counters.dropped(host, cause, &packet),
            Ok((first, second)) => {
                if let Some(second) = second {
                    self.queue.push(second, event(packet.clone()));
                }
                self.queue.push(first, event(packet));
            }
        }
    }

    /// Whether `to` is a broadcast address as the machine knows them.
    pub(super) fn is_broadcast_for(&self, host: HostId, to: IpAddr) -> bool {
        self.hosts[host.0 as usize].interfaces.iter().any(|id| self.is_broadcast_on(*id, to))
    }

    /// Whether `to` is a broadcast address of the network that an interface is on.
    pub(super) fn is_broadcast_on(&self, id: InterfaceId, to: IpAddr) -> bool {
        let segment = self.interfaces[id.index()].segment;
        is_broadcast(to, self.segments[segment.0 as usize].prefix.broadcast())
    }

    /// A packet is on the segment: it goes on to whom it is meant for.
    pub(super) fn cross_segment(&mut self, from: InterfaceId, packet: Packet) {
        let Interface { host: sender, segment, mtu, is_plugged, .. } = self.interfaces[from.0 as usize];
        if !is_plugged {
            return self.counters.dropped(sender, Drop::Unplugged, &packet);
        }
        let segment = &self.segments[segment.0 as usize];
        if packet.is_multicast() || is_broadcast(packet.to.ip(), segment.prefix.broadcast()) {
            let mut together = Together::default();
            for id in &segment.members {
                if *id == from {
                    continue;
                }
                let receiver = &self.interfaces[id.index()];
                if self.keeps_apart(from, *id, true) {
                    self.counters.dropped(receiver.host, Drop::Isolated, &packet);
                    continue;
                }
                let receiver = &mut self.interfaces[id.index()];
                if let Some(cause) = receiver.refuses(sender, &self.partitions) {
                    self.counters.dropped(receiver.host, cause, &packet);
                    continue;
                }
                match receiver.down.send(self.now, packet.pieces(mtu.min(receiver.mtu))) {
                    Err(cause) => self.counters.dropped(receiver.host, cause, &packet),
                    Ok((first, second)) => {
                        for at in std::iter::once(first).chain(second) {
                            together.add(at, *id, &packet, &mut self.queue);
                        }
                    }
                }
            }
            together.leave(packet, &mut self.queue);
        } else {
            self.hand_over(from, packet.to.ip(), packet);
        }
    }

    /// A packet is on the segment, and goes to one neighbour.
    pub(super) fn hand_over(&mut self, from: InterfaceId, neighbour: IpAddr, packet: Packet) {
        let Interface { host: sender, segment, mtu, is_plugged, .. } = self.interfaces[from.index()];
        if !is_plugged {
            return self.counters.dropped(sender, Drop::Unplugged, &packet);
        }
        let Some(id) = self.segments[segment.0 as usize].interface_with(neighbour) else {
            return self.seek(from, neighbour, packet);
        };
        let receiver = &self.interfaces[id.index()];
        if !receiver.answers || self.cut_since(sender, receiver.host).is_some() {
            return self.seek(from, neighbour, packet);
        }
        if self.keeps_apart(from, id, false) {
            return self.counters.dropped(self.interfaces[id.index()].host, Drop::Isolated, &packet);
        }
        if !self.tunnel(from, id, &packet) {
            let packet = self.publish_across(from, id, packet);
            self.send_down(id, mtu, packet);
        }
    }

    /// A packet is put on the cable to an interface by one with this MTU.
    pub(super) fn send_down(&mut self, id: InterfaceId, mtu: u16, packet: Packet) {
        let receiver = &mut self.interfaces[id.index()];
        match receiver.down.send(self.now, packet.pieces(mtu.min(receiver.mtu))) {
            Err(cause) => self.counters.dropped(receiver.host, cause, &packet),
            Ok((first, second)) => {
                if let Some(second) = second {
                    self.queue.push(second, Event::AtInterface(id, packet.clone()));
                }
                self.queue.push(first, Event::AtInterface(id, packet));
            }
        }
    }

    /// A packet has come to an interface.
    pub(super) fn arrive(&mut self, interface: InterfaceId, packet: Packet) {
        if let Some(host) = self.comes_in(interface, &packet) {
            self.enter(host, interface, packet);
        }
    }

    /// Copies of a packet have come to several interfaces of a segment. As nearly always, it is a broadcast that only sockets look
    /// at: then there are no copies.
    ///
    /// What is touched at each of them is in no cache. So each step is done for all before the next one, and the processor waits
    /// for many of them at a time.
    pub(super) fn arrive_at_all(&mut self, interfaces: &[InterfaceId], packet: &Packet) {
        let mut inside = Vec::with_capacity(interfaces.len());
        for id in interfaces {
            inside.extend(self.comes_in(*id, packet).map(|host| (*id, host)));
        }
        let mut hearers = Vec::with_capacity(inside.len());
        for (id, host) in inside {
            let before = hearers.len();
            let machine = &self.hosts[host.index()];
            if !machine.is_router && machine.translation.is_none() && self.is_broadcast_on(id, packet.to.ip())
            {
                hearers.extend(self.hearers_of(host, packet).map(|key| (id, host, Some(key))));
            }
            // It may be for nobody, or go on.
            if hearers.len() == before {
                hearers.push((id, host, None));
            }
        }
        for (_, host, socket) in &hearers {
            if let Some(socket) = socket {
                self.put_datagram(*host, *socket, packet);
            }
        }
        for (id, host, socket) in hearers {
            match socket {
                Some(socket) => self.wake_reader(socket),
                None => self.enter(host, id, packet.clone()),
            }
        }
    }

    /// Counts a packet at an interface, and says whose that is when it gets in there.
    fn comes_in(&mut self, interface: InterfaceId, packet: &Packet) -> Option<HostId> {
        let Interface { host, is_plugged, .. } = self.interfaces[interface.index()];
        if !is_plugged {
            self.counters.dropped(host, Drop::Unplugged, packet);
        } else if self.hosts[host.index()].is_powered {
            self.counters.received(host, interface, packet);
            return Some(host);
        } else {
            self.counters.dropped(host, Drop::NoHost, packet);
        }
        None
    }

    fn enter(&mut self, host: HostId, interface: InterfaceId, mut packet: Packet) {
        if packet.to.is_ipv6() {
            packet.enter(self.interfaces[interface.index()].number);
        }
        self.take_in(host, interface, packet);
    }

    /// A packet is inside the machine, by an interface unless the machine sent it to itself: its socket gets it.
    pub(super) fn deliver(&mut self, host: HostId, entered: Option<InterfaceId>, packet: Packet) {
        if !self.hosts[host.0 as usize].is_powered {
            return;
        }
        match packet.body {
            Body::Udp(_) => self.deliver_udp(host, entered, &packet),
            Body::Icmp(icmp) => self.deliver_icmp(host, *icmp),
            Body::Vxlan(tunnelled) => self.untunnel(*tunnelled),
            Body::Tcp(segment) => self.deliver_tcp(host, packet.from, packet.to, *segment),
        }
    }
}

/// Those of the receivers of one packet at whom it arrives at the same moment: where cables are alike, that is all of
/// them, and one event does for what would be one for each.
#[derive(Default)]
struct Together {
    at: Timestamp,
    receivers: Vec<InterfaceId>,
}

impl Together {
    fn add(&mut self, at: Timestamp, receiver: InterfaceId, packet: &Packet, queue: &mut Queue<Event>) {
        if at != self.at {
            std::mem::take(self).leave(packet.clone(), queue);
            self.at = at;
        }
        self.receivers.push(receiver);
    }

    fn leave(self, packet: Packet, queue: &mut Queue<Event>) {
        match self.receivers.as_slice() {
            [] => {}
            [only] => queue.push(self.at, Event::AtInterface(*only, packet)),
            _ => queue.push(self.at, Event::AtInterfaces(self.receivers, Box::new(packet))),
        }
    }
}

impl Segment {
    /// Who has an address.
    pub(super) fn interface_with(&self, address: IpAddr) -> Option<InterfaceId> {
        match address {
            IpAddr::V4(address) => self.by_address.get(&address).copied(),
            IpAddr::V6(address) => self.by_address6.get(&address).copied(),
        }
    }
}

impl Interface {
    /// Why no packet of this machine gets onto the interface's cable now.
    fn refuses(&self, sender: HostId, partitions: &[Partition]) -> Option<Drop> {
        if Fabric::is_cut(partitions, sender, self.host) {
            Some(Drop::Partition)
        } else {
            (!self.is_plugged).then_some(Drop::Unplugged)
        }
    }
}

fn is_broadcast(to: IpAddr, directed: Ipv4Addr) -> bool {
    matches!(to, IpAddr::V4(to) if to.is_broadcast() || to == directed)
}
