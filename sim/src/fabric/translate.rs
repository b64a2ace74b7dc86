//! Where on their way through a router packets get other addresses. What they get is decided in [`super::nat`].
//!
//! As on Linux, what comes in from outside is translated before the router looks for a way, and what goes out after it has
//! found one, so that a router's complaints carry the addresses that their receivers know. Errors are translated with
//! the packet that they quote. One interface of such a router is the outside, all others are inside; between those nothing
//! changes, and no multicast goes out or comes in. IPv6 goes through as it is.

use std::net::{IpAddr, SocketAddr};

use hailer::Timestamp;

use super::nat::{Flow, Inbound, MidConnection, Nat, Policy, Protocol, Refusal, Signal, TcpSignal};
use super::packet::{Body, Packet};
use super::random::Stream;
use super::{Fabric, HostId, InterfaceId};
use crate::scenario;
use crate::trace::Drop;

/// What makes a router a NAT.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) nat: Nat,
    outside: InterfaceId,
    pub(super) address: IpAddr,
    /// Of a Docker host: whether its engine's userland proxy runs.
    pub(super) has_proxy: Option<bool>,
}

impl Fabric {
    /// Lets the router at `outside` translate what goes out there, to the interface's address, and what comes in.
    pub fn translate(&mut self, outside: InterfaceId, policy: Policy) {
        let interface = &self.interfaces[outside.index()];
        let (host, address) = (&mut self.hosts[interface.host.index()], IpAddr::V4(interface.address));
        let stream = Stream::new(self.seed, &format!("{}/nat", host.name));
        let nat = Nat::new(policy, vec![address], stream);
        host.translation = Some(Box::new(Translation { nat, outside, address, has_proxy: None }));
    }

    /// Forwards what comes to a port of a NAT's outside address to an inside end. Without effect on a machine that
    /// translates nothing.
    pub fn forward_port(&mut self, router: HostId, protocol: scenario::Protocol, port: u16, to: SocketAddr) {
        if let Some(translation) = &mut self.hosts[router.index()].translation {
            let outside = SocketAddr::new(translation.address, port);
            translation.nat.forward_port(protocol.into(), outside, to);
        }
    }

    /// Forwards a port no more. What has come in by it goes on.
    pub fn withdraw_port(&mut self, router: HostId, protocol: scenario::Protocol, port: u16) {
        if let Some(translation) = &mut self.hosts[router.index()].translation {
            translation.nat.withdraw_port(protocol.into(), port);
        }
    }

    /// A NAT forgets all of its mappings.
    pub fn reboot_nat(&mut self, router: HostId) {
        if let Some(translation) = &mut self.hosts[router.index()].translation {
            translation.nat.reboot();
        }
    }

    /// How many sessions a NAT has in its table; none on a machine that translates nothing.
    pub fn nat_sessions(&mut self, router: HostId) -> usize {
        let now = self.now;
        let translation = &mut self.hosts[router.index()].translation;
        translation.as_mut().map_or(0, |translation| translation.nat.len(now))
    }

    /// Whether multicasts stay where they are when they come by the one interface and would leave by the other.
    pub(super) fn parts_multicasts(&self, host: HostId, entered: InterfaceId, leaves: InterfaceId) -> bool {
        let translation = &self.hosts[host.index()].translation;
        translation.as_ref().is_some_and(|translation| [entered, leaves].contains(&translation.outside))
    }

    /// A packet has come to a machine: as what it goes on. `None` when it does not.
    pub(super) fn translate_in(
        &mut self,
        host: HostId,
        entered: InterfaceId,
        packet: Packet,
    ) -> Option<Packet> {
        let to = packet.to.ip();
        let is_for_many = || packet.is_multicast() || self.is_broadcast_for(host, to);
        if self.hosts[host.index()].translation.is_none() || to.is_ipv6() || is_for_many() {
            return Some(packet);
        }
        let is_own = self.is_own_address(host, to);
        let translation = self.hosts[host.index()].translation.as_mut()?;
        let now = self.now;
        if translation.has_proxy.is_some() && entered != translation.outside && is_own {
            return self.publish_in(host, entered, packet);
        }
        let is_to_outside = to == translation.address;
        let translated = match (entered == translation.outside, is_to_outside) {
            (true, true) => translation.incoming(now, packet),
            // Nobody outside knows the addresses inside.
            (true, false) => Err((Refusal::Unmapped, packet)),
            (false, true) => translation.returning(now, packet),
            (false, false) => Ok(packet),
        };
        translated.map_err(|(refusal, packet)| self.refuse(host, refusal, packet)).ok()
    }

    /// A packet is about to leave a machine, which it has `entered` before or else comes from: as what it leaves. `None`
    /// when it does not.
    pub(super) fn translate_out(
        &mut self,
        host: HostId,
        entered: Option<InterfaceId>,
        leaves: InterfaceId,
        packet: Packet,
    ) -> Option<Packet> {
        let (now, machine) = (self.now, &mut self.hosts[host.index()]);
        let Some(translation) = &mut machine.translation else { return Some(packet) };
        if leaves != translation.outside || entered == Some(leaves) || packet.to.is_ipv6() {
            return Some(packet);
        }
        let translated = translation.outgoing(now, packet, entered.is_none());
        translated.map_err(|(refusal, packet)| self.refuse(host, refusal, packet)).ok()
    }

    /// A packet that a machine complains about, with the source that it had before it was translated.
    pub(super) fn as_it_was_sent(&mut self, host: HostId, mut packet: Packet) -> Packet {
        let (now, machine) = (self.now, &mut self.hosts[host.index()]);
        if let Some(translation) = &mut machine.translation
            && let Question::Packet(flow, _) = question(&packet)
            && let Some(flow) = translation.nat.as_published(now, &flow)
        {
            (packet.from, packet.to) = (flow.from, flow.to);
        } else if let Some(translation) = &mut machine.translation
            && packet.from.ip() == translation.address
            && let Question::Packet(flow, _) = question(&packet)
            && let Some(flow) = translation.nat.inbound_error(now, &flow)
        {
            packet.from = flow.from;
        }
        packet
    }

    pub(super) fn refuse(&mut self, host: HostId, refusal: Refusal, packet: Packet) {
        self.counters.dropped(host, cause(refusal), &packet);
        let translation = &self.hosts[host.index()].translation;
        let resets = translation.as_ref().is_some_and(|translation| {
            refusal == Refusal::Forgotten && translation.nat.policy().mid_connection == MidConnection::Reset
        });
        if let Body::Tcp(segment) = &packet.body
            && let Some(reset) = segment.reset_answering().filter(|_| resets)
        {
            let reset = Packet::new(packet.to, packet.from, Body::Tcp(Box::new(reset)));
            // Without a way back nobody hears of it.
            let _ = self.transmit(host, reset, None);
        }
    }
}

/// A packet with other addresses, or why it goes nowhere.
type Translated = Result<Packet, (Refusal, Packet)>;

impl Translation {
    pub(super) fn reboot(&mut self) {
        self.nat.reboot();
    }

    fn incoming(&mut self, now: Timestamp, mut packet: Packet) -> Translated {
        match question(&packet) {
            Question::Packet(flow, signal) => match self.nat.inbound(now, &flow, &signal) {
                Inbound::Forward(inside) => packet.to = inside,
                Inbound::Local => {}
                Inbound::Drop(refusal) => return Err((refusal, packet)),
            },
            Question::Error(quoted) => {
                if let Some(quoted) = self.nat.inbound_error(now, &quoted) {
                    packet.to = SocketAddr::new(quoted.from.ip(), 0);
                    set_quoted(&mut packet, quoted);
                }
            }
        }
        Ok(packet)
    }

    fn outgoing(&mut self, now: Timestamp, mut packet: Packet, is_own: bool) -> Translated {
        match question(&packet) {
            Question::Packet(flow, signal) => match self.nat.outbound(now, &flow, &signal) {
                Ok(outside) => packet.from = outside,
                Err(refusal) => return Err((refusal, packet)),
            },
            Question::Error(quoted) => match self.nat.outbound_error(now, &quoted) {
                Some(quoted) => {
                    packet.from = SocketAddr::new(self.address, 0);
                    set_quoted(&mut packet, quoted);
                }
                None if is_own => {}
                None => return Err((Refusal::Unmapped, packet)),
            },
        }
        Ok(packet)
    }

    /// From inside to the outside address: to another machine inside, or to the router itself.
    fn returning(&mut self, now: Timestamp, mut packet: Packet) -> Translated {
        match question(&packet) {
            Question::Packet(flow, signal) => match self.nat.hairpin(now, &flow, &signal) {
                Ok(flow) => (packet.from, packet.to) = (flow.from, flow.to),
                Err(Refusal::NoHairpin) => {}
                Err(refusal) => return Err((refusal, packet)),
            },
            Question::Error(quoted) => {
                let outbound = self.nat.outbound_error(now, &quoted);
                if let Some(quoted) = outbound.and_then(|quoted| self.nat.inbound_error(now, &quoted)) {
                    packet.from = SocketAddr::new(self.address, 0);
                    packet.to = SocketAddr::new(quoted.from.ip(), 0);
                    set_quoted(&mut packet, quoted);
                }
            }
        }
        Ok(packet)
    }
}

/// What a NAT is to be asked about a packet.
pub(super) enum Question {
    Packet(Flow, Signal),
    /// An error, about this packet.
    Error(Flow),
}

pub(super) fn question(packet: &Packet) -> Question {
    let flow = |packet: &Packet, protocol| Flow { protocol, from: packet.from, to: packet.to };
    match &packet.body {
        // A tunnel is UDP to whom it passes.
        Body::Udp(_) | Body::Vxlan(_) => Question::Packet(flow(packet, Protocol::Udp), Signal::Datagram),
        Body::Tcp(segment) => {
            let (syn, fin, rst) = (segment.syn, segment.fin, segment.rst);
            let signal = TcpSignal { syn, fin, rst, ack: segment.ack, end: segment.end() };
            Question::Packet(flow(packet, Protocol::Tcp), Signal::Segment(signal))
        }
        Body::Icmp(icmp) => {
            let is_tcp = matches!(icmp.about.body, Body::Tcp(_));
            Question::Error(flow(&icmp.about, if is_tcp { Protocol::Tcp } else { Protocol::Udp }))
        }
    }
}

/// Changes the addresses of the packet that an error quotes.
pub(super) fn set_quoted(packet: &mut Packet, quoted: Flow) {
    if let Body::Icmp(icmp) = &mut packet.body {
        (icmp.about.from, icmp.about.to) = (quoted.from, quoted.to);
    }
}

fn cause(refusal: Refusal) -> Drop {
    match refusal {
        // A packet that is not hairpinned is the router's own.
        Refusal::Unmapped | Refusal::NoHairpin => Drop::NatUnmapped,
        Refusal::Filtered => Drop::NatFiltered,
        Refusal::Invalid => Drop::NatInvalid,
        Refusal::Forgotten => Drop::NatForgotten,
        Refusal::NoPort => Drop::NatNoPort,
        Refusal::Quota => Drop::NatQuota,
        Refusal::TableFull => Drop::NatTableFull,
        Refusal::Taken => Drop::NatTaken,
    }
}
