//! The machine's addresses, with what the operating system leaves out filled in.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use if_addrs::IfAddr;

use crate::net::Interface;

/// All addresses of this machine, in the system's order.
pub(super) fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = if_addrs::get_if_addrs()?.iter().filter_map(describe).collect();
    // An address added to `lo` looks like any other; what gives it away is that 127.0.0.1 or ::1 is on the same interface.
    let loopbacks: Vec<u32> =
        interfaces.iter().filter(|it| it.address.is_loopback()).map(|it| it.index).collect();
    for interface in &mut interfaces {
        interface.is_loopback = loopbacks.contains(&interface.index);
        if interface.is_loopback {
            interface.broadcast = None;
        }
    }
    Ok(interfaces)
}

/// `None` for an interface that vanished while the list was made.
fn describe(found: &if_addrs::Interface) -> Option<Interface> {
    let (address, prefix, broadcast) = match &found.addr {
        IfAddr::V4(v4) => {
            (v4.ip.into(), v4.prefixlen, broadcast_of(v4.ip, v4.prefixlen, v4.broadcast, found.is_p2p))
        }
        IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen, None),
    };
    Some(Interface {
        name: found.name.clone(),
        index: found.index?,
        address,
        prefix,
        broadcast: broadcast.map(IpAddr::V4),
        is_loopback: false,
        is_point_to_point: found.is_p2p,
        is_up: found.is_oper_up(),
    })
}

/// The directed broadcast address. `ip addr add` without `brd +` leaves it unsaid, and some drivers report the address
/// itself; the kernel's broadcast route exists either way. A network of one or two addresses has none.
fn broadcast_of(address: Ipv4Addr, prefix: u8, reported: Option<Ipv4Addr>, is_p2p: bool) -> Option<Ipv4Addr> {
    if is_p2p || prefix > 30 {
        return None;
    }
    let usable = reported.filter(|it| *it != address && !it.is_unspecified());
    usable.or_else(|| Some(Ipv4Addr::from_bits(address.to_bits() | (u32::MAX >> prefix))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_address_that_is_missing_or_wrong_is_worked_out() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        let worked_out = Some(Ipv4Addr::new(10, 1, 2, 255));
        assert_eq!(broadcast_of(address, 24, None, false), worked_out);
        assert_eq!(broadcast_of(address, 24, Some(address), false), worked_out);
        assert_eq!(broadcast_of(address, 24, Some(Ipv4Addr::UNSPECIFIED), false), worked_out);
        let odd = Some(Ipv4Addr::new(10, 1, 2, 0));
        assert_eq!(broadcast_of(address, 24, odd, false), odd, "an administrator may have set it");
        assert_eq!(broadcast_of(address, 0, None, false), Some(Ipv4Addr::BROADCAST));
    }

    #[test]
    fn tunnels_and_tiny_networks_have_no_broadcast_address() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(broadcast_of(address, 24, None, true), None);
        assert_eq!(broadcast_of(address, 31, None, false), None);
        assert_eq!(broadcast_of(address, 32, Some(address), false), None);
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let all = list().unwrap();
        let lo = all.iter().find(|it| it.address == IpAddr::V4(Ipv4Addr::LOCALHOST)).expect("127.0.0.1");
        assert!(lo.is_loopback && lo.is_up && lo.index > 0 && !lo.is_point_to_point, "{lo:?}");
        assert_eq!((lo.prefix, lo.broadcast), (8, None));
    }
}
