//! The way of a packet: out of a machine, over the segment, into the machines that are meant.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::faults::Partition;
use super::packet::{Body, Packet};
use super::{Event, Fabric, HostId, Interface, InterfaceId};
use crate::trace::Drop;

/// How long a packet takes that never leaves its machine.
const SELF_DELAY: Duration = Duration::from_micros(10);

impl Fabric {
    /// Sends a packet. Where it has to leave by `hint` (a source address), it does.
    ///
    /// # Errors
    /// `NetworkUnreachable` when no interface leads to the destination.
    pub(super) fn transmit(&mut self, host: HostId, packet: Packet, hint: Option<IpAddr>) -> io::Result<()> {
        let to = packet.to.ip();
        if self.is_own_address(host, to) {
            self.queue.push(self.now.after(SELF_DELAY), Event::AtSelf(host, packet));
            return Ok(());
        }
        let id = self.way_out(host, to, hint).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let interface = &mut self.interfaces[id.0 as usize];
        let prefix = self.segments[interface.segment.0 as usize].prefix;
        let is_for_all = packet.is_multicast() || is_broadcast(to, prefix.broadcast());
        if is_for_all {
            // Linux hands a machine its own broadcasts, and its own multicasts unless told not to.
            self.queue.push(self.now.after(SELF_DELAY), Event::AtSelf(host, packet.clone()));
        }
        if !interface.is_plugged {
            self.counters.dropped(host, Drop::Unplugged, &packet);
            return Ok(());
        }
        self.counters.sent(host, id, &packet);
        let arrivals = interface.up.send(self.now, packet.pieces(interface.mtu));
        match arrivals {
            Err(cause) => self.counters.dropped(host, cause, &packet),
            Ok((first, second)) => {
                if let Some(second) = second {
                    self.queue.push(second, Event::AtSegment(id, packet.clone()));
                }
                self.queue.push(first, Event::AtSegment(id, packet));
            }
        }
        Ok(())
    }

    /// The interface by which a packet leaves.
    pub(super) fn way_out(&self, host: HostId, to: IpAddr, hint: Option<IpAddr>) -> Option<InterfaceId> {
        let IpAddr::V4(to) = to else { return None };
        let own = &self.hosts[host.0 as usize].interfaces;
        let hinted =
            || own.iter().find(|id| hint == Some(IpAddr::V4(self.interfaces[id.0 as usize].address)));
        let on_link = || {
            own.iter().find(|id| {
                self.segments[self.interfaces[id.0 as usize].segment.0 as usize].prefix.contains(&to)
            })
        };
        if to.is_broadcast() || to.is_multicast() {
            hinted().or_else(|| own.first()).copied()
        } else {
            on_link().copied()
        }
    }

    /// The address a packet to `to` carries as its source when its socket is not bound to one.
    pub(super) fn source_for(&self, host: HostId, to: IpAddr, hint: Option<IpAddr>) -> io::Result<IpAddr> {
        if to.is_loopback() || self.is_own_address(host, to) {
            return Ok(to);
        }
        let id = self.way_out(host, to, hint).ok_or(io::ErrorKind::NetworkUnreachable)?;
        Ok(IpAddr::V4(self.interfaces[id.0 as usize].address))
    }

    /// Whether `to` is a broadcast address as the machine knows them.
    pub(super) fn is_broadcast_for(&self, host: HostId, to: IpAddr) -> bool {
        self.hosts[host.0 as usize].interfaces.iter().any(|id| {
            let segment = self.interfaces[id.0 as usize].segment;
            is_broadcast(to, self.segments[segment.0 as usize].prefix.broadcast())
        })
    }

    /// A packet is on the segment: it goes on to whom it is meant for.
    pub(super) fn cross_segment(&mut self, from: InterfaceId, packet: Packet) {
        let Interface { host: sender, segment, mtu, is_plugged, .. } = self.interfaces[from.0 as usize];
        if !is_plugged {
            return self.counters.dropped(sender, Drop::Unplugged, &packet);
        }
        let segment = &self.segments[segment.0 as usize];
        let IpAddr::V4(to) = packet.to.ip() else { return };
        if packet.is_multicast() || is_broadcast(IpAddr::V4(to), segment.prefix.broadcast()) {
            for id in &segment.members {
                if *id == from {
                    continue;
                }
                let receiver = &mut self.interfaces[id.0 as usize];
                if let Some(cause) = receiver.refuses(sender, &self.partitions) {
                    self.counters.dropped(receiver.host, cause, &packet);
                    continue;
                }
                match receiver.down.send(self.now, packet.pieces(mtu.min(receiver.mtu))) {
                    Err(cause) => self.counters.dropped(receiver.host, cause, &packet),
                    Ok((first, second)) => {
                        for at in std::iter::once(first).chain(second) {
                            self.queue.push(at, Event::AtInterface(*id, packet.clone()));
                        }
                    }
                }
            }
        } else if let Some(id) = segment.by_address.get(&to).copied() {
            let receiver = &mut self.interfaces[id.0 as usize];
            if let Some(cause) = receiver.refuses(sender, &self.partitions) {
                return self.counters.dropped(receiver.host, cause, &packet);
            }
            match receiver.down.send(self.now, packet.pieces(mtu.min(receiver.mtu))) {
                Err(cause) => self.counters.dropped(receiver.host, cause, &packet),
                Ok((first, second)) => {
                    if let Some(second) = second {
                        self.queue.push(second, Event::AtInterface(id, packet.clone()));
                    }
                    self.queue.push(first, Event::AtInterface(id, packet));
                }
            }
        } else {
            self.counters.dropped(sender, Drop::NoHost, &packet);
        }
    }

    /// A packet has come to an interface.
    pub(super) fn arrive(&mut self, interface: InterfaceId, packet: Packet) {
        let Interface { host, is_plugged, .. } = self.interfaces[interface.0 as usize];
        if !is_plugged {
            self.counters.dropped(host, Drop::Unplugged, &packet);
        } else if !self.is_for(host, &packet) {
            // It was, when it was sent.
            self.counters.dropped(host, Drop::NoHost, &packet);
        } else if self.hosts[host.0 as usize].is_powered {
            self.counters.received(host, interface, &packet);
            self.deliver(host, packet);
        } else {
            self.counters.dropped(host, Drop::NoHost, &packet);
        }
    }

    fn is_for(&self, host: HostId, packet: &Packet) -> bool {
        let to = packet.to.ip();
        self.is_own_address(host, to) || packet.is_multicast() || self.is_broadcast_for(host, to)
    }

    /// A packet is inside the machine: its socket gets it.
    pub(super) fn deliver(&mut self, host: HostId, packet: Packet) {
        if !self.hosts[host.0 as usize].is_powered {
            return;
        }
        match packet.body {
            Body::Udp(_) => self.deliver_udp(host, packet),
            Body::Tcp(segment) => self.deliver_tcp(host, packet.from, packet.to, *segment),
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
