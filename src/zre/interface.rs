//! Which interface a node uses, and where its beacons go.
//!
//! One IPv4 interface, as zyre: a node announces one address, that of the interface its beacons leave by. Unlike zyre it
//! hears no beacons of the machine's other networks: whoever is there could not reach that address, would enter a node that
//! never beacons to it, and lose it when its time is up.

use std::net::{IpAddr, Ipv4Addr};

use super::StartError;
use crate::net::Interface;

/// Where a node is on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// The address that peers reach it at.
    pub(super) address: Ipv4Addr,
    /// Where its beacons go.
    pub(super) broadcast: Ipv4Addr,
    /// The networks of the machine's interfaces: of this one, and of the others.
    own: Network,
    others: Vec<Network>,
}

/// The network that an address of the machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl Network {
    fn of(interface: &Interface, address: Ipv4Addr) -> Self {
        Self { address, prefix: interface.prefix }
    }

    fn contains(&self, other: Ipv4Addr) -> bool {
        let host_bits = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        (self.address.to_bits() ^ other.to_bits()) & !host_bits == 0
    }
}

impl Site {
    /// Whether whoever sends from this address is a neighbour on another of the machine's networks. The machine itself
    /// is none, whatever address it sends from.
    pub(super) fn is_elsewhere(&self, from: IpAddr) -> bool {
        let IpAddr::V4(from) = from else { return false };
        !self.own.contains(from)
            && self.others.iter().any(|other| other.contains(from))
            && self.others.iter().all(|other| other.address != from)
    }
}

/// Chooses the interface that is named by name, index or address, or else the first that is up and is neither a loopback
/// nor a tunnel; one that can broadcast goes before one that can't.
pub(super) fn choose(interfaces: &[Interface], wanted: Option<&str>) -> Result<Site, StartError> {
    let usable = interfaces.iter().filter_map(|interface| match interface.address {
        IpAddr::V4(address) if interface.is_up => Some((interface, address)),
        _ => None,
    });
    let networks = usable.clone().map(|(interface, address)| Network::of(interface, address));
    let chosen = match wanted {
        Some(wanted) => usable.into_iter().find(|(interface, address)| {
            interface.name == wanted || interface.index.to_string() == wanted || address.to_string() == wanted
        }),
        None => usable
            .filter(|(interface, _)| !interface.is_loopback && !interface.is_point_to_point)
            .min_by_key(|(interface, _)| interface.broadcast.is_none()),
    };
    match chosen {
        Some((interface, address)) => Ok(Site {
            address,
            broadcast: broadcast(interface, address),
            own: Network::of(interface, address),
            others: networks.filter(|network| network.address != address).collect(),
        }),
        None => Err(StartError::NoInterface {
            wanted: wanted.map(str::to_owned),
            found: interfaces.iter().map(describe).collect(),
        }),
    }
}

/// Where datagrams for everybody go: loopbacks have no broadcast address of their own, but Linux delivers to the last
/// address of their network; for the rest there is the one that never leaves the link.
fn broadcast(interface: &Interface, address: Ipv4Addr) -> Ipv4Addr {
    match interface.broadcast {
        Some(IpAddr::V4(broadcast)) => broadcast,
        _ if interface.is_loopback => {
            let host_bits = u32::MAX.checked_shr(interface.prefix.into()).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() | host_bits)
        }
        _ => Ipv4Addr::BROADCAST,
    }
}

fn describe(interface: &Interface) -> String {
    let against = [
        (!interface.is_up, "down"),
        (interface.is_loopback, "loopback"),
        (interface.is_point_to_point, "tunnel"),
        (interface.address.is_ipv6(), "IPv6"),
    ];
    let against: Vec<_> = against.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect();
    let Interface { name, address, .. } = interface;
    if against.is_empty() {
        format!("{name} {address}")
    } else {
        format!("{name} {address} ({})", against.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32, address: &str, broadcast: Option<&str>) -> Interface {
        Interface {
            name: name.into(),
            index,
            address: address.parse().unwrap(),
            prefix: if name == "lo" { 8 } else { 24 },
            broadcast: broadcast.map(|broadcast| broadcast.parse().unwrap()),
            is_loopback: name == "lo",
            is_point_to_point: name.starts_with("tun"),
            is_up: name != "off0",
        }
    }

    fn machine() -> Vec<Interface> {
        vec![
            interface("lo", 1, "127.0.0.1", None),
            interface("off0", 2, "10.9.0.1", Some("10.9.0.255")),
            interface("tun0", 3, "10.8.0.1", None),
            interface("eth0", 4, "fe80::1", None),
            interface("odd0", 5, "10.5.0.1", None),
            interface("eth0", 4, "10.0.0.1", Some("10.0.0.255")),
            interface("eth1", 6, "10.1.0.1", Some("10.1.0.255")),
        ]
    }

    fn chosen(wanted: Option<&str>) -> Option<(String, String)> {
        let site = choose(&machine(), wanted).ok()?;
        Some((site.address.to_string(), site.broadcast.to_string()))
    }

    #[test]
    fn the_first_interface_that_can_broadcast_is_chosen() {
        assert_eq!(chosen(None), Some(("10.0.0.1".into(), "10.0.0.255".into())));
    }

    #[test]
    fn an_interface_is_named_by_name_index_or_address() {
        for wanted in ["eth1", "6", "10.1.0.1"] {
            assert_eq!(chosen(Some(wanted)), Some(("10.1.0.1".into(), "10.1.0.255".into())), "{wanted}");
        }
    }

    #[test]
    fn loopbacks_and_tunnels_are_used_when_they_are_asked_for() {
        assert_eq!(chosen(Some("lo")), Some(("127.0.0.1".into(), "127.255.255.255".into())));
        assert_eq!(chosen(Some("tun0")), Some(("10.8.0.1".into(), "255.255.255.255".into())));
    }

    #[test]
    fn without_a_broadcast_address_the_limited_broadcast_is_used() {
        let only = [interface("odd0", 5, "10.5.0.1", None)];
        assert_eq!(choose(&only, None).unwrap().broadcast, Ipv4Addr::BROADCAST);
    }

    #[test]
    fn who_is_on_another_network_of_the_machine_is_elsewhere() {
        let site = choose(&machine(), Some("eth1")).unwrap();
        let is_elsewhere = |from: &str| site.is_elsewhere(from.parse().unwrap());
        assert!(is_elsewhere("10.0.0.9") && is_elsewhere("10.5.0.9") && is_elsewhere("127.0.0.9"));
        for from in ["10.1.0.9", "10.1.0.1", "10.0.0.1", "127.0.0.1", "192.168.7.7", "10.9.0.9", "fe80::9"] {
            assert!(!is_elsewhere(from), "{from}");
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_interfaces_that_there_are() {
        for wanted in [Some("eth7"), Some("off0"), Some("fe80::1")] {
            let error = choose(&machine(), wanted).unwrap_err().to_string();
            assert!(error.contains(wanted.unwrap()) && error.contains("eth0 10.0.0.1"), "{error}");
            assert!(
                error.contains("off0 10.9.0.1 (down)") && error.contains("eth0 fe80::1 (IPv6)"),
                "{error}"
            );
        }
        let error = choose(&machine()[..3], None).unwrap_err().to_string();
        assert!(
            error.contains("lo 127.0.0.1 (loopback)") && error.contains("tun0 10.8.0.1 (tunnel)"),
            "{error}"
        );
    }
}
