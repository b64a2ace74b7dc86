//! IPv6 on the fabric: what is different from IPv4.
//!
//! An interface that has IPv6 has two addresses: one of its segment's prefix, and one that means something on its segment
//! alone (`fe80::/64`), made from a hardware address as Linux would make it. A link-local address is only half of one: the
//! scope, the number of an interface, says on which segment, and every machine counts its own interfaces. So scopes
//! never travel: they are set anew where a packet arrives.
//!
//! Not modelled: router advertisements and duplicate address detection (addresses and routes are given), and flow labels.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use ipnet::{IpNet, Ipv6Net};

use super::packet::{Body, Packet};
use super::random::Stream;
use super::route::Hop;
use super::{Fabric, HostId, Interface, InterfaceId};

/// The IPv6 addresses of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Six {
    pub(super) global: Ipv6Addr,
    pub(super) local: Ipv6Addr,
    pub(super) prefix: Ipv6Net,
}

/// Length of the prefix of link-local addresses.
pub(super) const LINK_LOCAL_PREFIX_LEN: u8 = 64;

impl Fabric {
    /// Gives an interface an IPv6 address in its segment's `prefix`, and a link-local one.
    pub fn add_address6(&mut self, id: InterfaceId, address: Ipv6Addr, prefix: Ipv6Net) {
        let host = self.interfaces[id.index()].host;
        let machine = &self.hosts[host.index()];
        let number = machine.interfaces.iter().position(|own| *own == id).unwrap_or_default();
        let local = link_local(&format!("{}/eth{number}", machine.name));
        let interface = &mut self.interfaces[id.index()];
        interface.six = Some(Six { global: address, local, prefix });
        let segment = &mut self.segments[interface.segment.0 as usize];
        segment.by_address6.insert(address, id);
        segment.by_address6.insert(local, id);
        self.add_connected_route(IpNet::V6(prefix), id);
    }

    /// By which interface a packet leaves that stays on its segment, or goes to a group.
    pub(super) fn way_out_scoped(&self, host: HostId, to: SocketAddrV6, hint: Option<IpAddr>) -> Option<Hop> {
        let own = &self.hosts[host.index()].interfaces;
        let has_six = |id: &&InterfaceId| self.interfaces[id.index()].six.is_some();
        let by_scope = own.iter().find(|id| self.interfaces[id.index()].number == to.scope_id());
        let interface = if to.scope_id() != 0 {
            by_scope.filter(has_six)
        } else if to.ip().is_multicast() {
            let hinted = hint.and_then(|hint| own.iter().find(|id| self.interfaces[id.index()].has(hint)));
            hinted.or_else(|| own.iter().find(has_six))
        } else {
            None
        };
        interface.map(|interface| Hop { interface: *interface, gateway: None })
    }
}

impl Interface {
    /// Whether it has this address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.address == address,
            IpAddr::V6(address) => self.six.is_some_and(|six| six.global == address || six.local == address),
        }
    }

    /// The address with which it sends to `to`, when it has one of the kind.
    pub(super) fn source_to(&self, to: IpAddr) -> Option<IpAddr> {
        match to {
            IpAddr::V4(_) => Some(IpAddr::V4(self.address)),
            IpAddr::V6(to) => {
                self.six.map(|six| IpAddr::V6(if stays_on_segment(to) { six.local } else { six.global }))
            }
        }
    }
}

impl Packet {
    /// Sets the scopes of its addresses to the number of the interface that it came to.
    pub(super) fn enter(&mut self, number: u32) {
        for address in [&mut self.from, &mut self.to] {
            *address = scoped(address.ip(), address.port(), number);
        }
        if let Body::Icmp(icmp) = &mut self.body {
            icmp.about.enter(number);
        }
    }
}

/// An address and port, with the scope when the address needs one.
pub(super) fn scoped(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, scope).into()
        }
        _ => SocketAddr::new(address, port),
    }
}

/// The scope of an address, 0 for none.
pub(super) fn scope_of(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

/// Whether no router passes on what goes to this address: it is link-local, or a group of that scope or a smaller one.
pub(super) fn stays_on_segment(to: Ipv6Addr) -> bool {
    let scope = to.segments()[0] & 0xF;
    to.is_unicast_link_local() || (to.is_multicast() && scope <= 2)
}

/// The link-local address of the interface with this name, from a hardware address drawn for it (RFC 4291, appendix A).
fn link_local(name: &str) -> Ipv6Addr {
    let mut drawn = [0; 5];
    Stream::new(0, &format!("{name}/hardware address")).fill(&mut drawn);
    let [a, b, c, d, e] = drawn.map(u16::from);
    Ipv6Addr::new(0xFE80, 0, 0, 0, a, b << 8 | 0xFF, 0xFE00 | c, d << 8 | e)
}
