//! Which addresses a datagram may make this member dial.
//!
//! pir connects to whatever a datagram names, so that anybody can make a group scan a network for him. Here, unless the
//! configuration has a list of its own, an announcement may name its sender's address and no other, and what one member
//! tells of another may name addresses of this machine's own networks; and no port below 1024.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::net::Interface;

/// Ports that may be dialled when nothing is said about them: those that need no privilege.
const PORT_FIRST: u16 = 1024;

/// Addresses and ports that may be dialled: `10.0.0.0/8`, `10.9.0.7`, `fd77::/16`, each perhaps with ports after a space:
/// `10.0.0.0/8 80`, `10.0.0.0/8 8000-8999`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    network: IpAddr,
    prefix: u8,
    first: u16,
    last: u16,
}

/// The text is not addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a network and ports, for example \"10.0.0.0/8 1024-65535\"; without ports those from 1024 on are meant"
)]
pub struct NotAllowed;

impl FromStr for Allowed {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let (network, ports) =
            text.split_once(' ').map_or((text, None), |(network, ports)| (network, Some(ports)));
        let (network, prefix) = match network.split_once('/') {
            Some((network, prefix)) => (network, Some(prefix.parse::<u8>().map_err(|_| NotAllowed)?)),
            None => (network, None),
        };
        let network: IpAddr = network.parse().map_err(|_| NotAllowed)?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let port = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(NotAllowed);
        let (first, last) = match ports {
            None => (PORT_FIRST, u16::MAX),
            Some(ports) => match ports.split_once('-') {
                Some((first, last)) => (port(first)?, port(last)?),
                None => (port(ports)?, port(ports)?),
            },
        };
        let allowed = Self { network, prefix: prefix.unwrap_or(bits), first, last };
        if allowed.prefix > bits || first > last { Err(NotAllowed) } else { Ok(allowed) }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}-{}", self.network, self.prefix, self.first, self.last)
    }
}

impl Allowed {
    fn holds(&self, address: IpAddr, port: u16) -> bool {
        (self.first..=self.last).contains(&port) && is_on(address, self.network, self.prefix)
    }
}

/// How somebody knows the address of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It came in a datagram from this address, about its own sender.
    Itself(IpAddr),
    /// Another member told of it.
    Another,
}

/// Decides what may be dialled.
#[derive(Clone, Debug)]
pub(super) struct AllowList {
    configured: Vec<Allowed>,
    /// The networks of this machine.
    own: Vec<(IpAddr, u8)>,
}

impl AllowList {
    pub(super) const fn new(configured: Vec<Allowed>) -> Self {
        Self { configured, own: Vec::new() }
    }

    /// Takes in where this machine is now.
    pub(super) fn note_interfaces(&mut self, interfaces: &[Interface]) {
        self.own = interfaces.iter().map(|interface| (interface.address, interface.prefix)).collect();
    }

    /// Whether this address may be dialled. Nobody is dialled at an address of no machine, or at one of many machines.
    pub(super) fn permits(&self, address: IpAddr, port: u16, source: Source) -> bool {
        let is_nobodys = address.is_unspecified()
            || address.is_multicast()
            || matches!(address, IpAddr::V4(four) if four.is_broadcast());
        if is_nobodys || port == 0 {
            return false;
        }
        if !self.configured.is_empty() {
            return self.configured.iter().any(|allowed| allowed.holds(address, port));
        }
        port >= PORT_FIRST
            && match source {
                Source::Itself(sender) => address == sender,
                Source::Another => {
                    !address.is_loopback()
                        && self.own.iter().any(|(own, prefix)| is_on(address, *own, *prefix))
                }
            }
    }
}

/// Whether an address is on the network of another.
fn is_on(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & !host_bits == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & !host_bits == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_list_an_announcement_names_its_own_sender_and_nobody_else() {
        let mut list = AllowList::new(Vec::new());
        let own = Interface {
            name: "eth0".to_owned(),
            index: 2,
            address: ip("10.0.0.1"),
            prefix: 24,
            broadcast: None,
            is_loopback: false,
            is_point_to_point: false,
            is_up: true,
        };
        list.note_interfaces(&[own]);
        let sender = Source::Itself(ip("192.0.2.7"));
        assert!(list.permits(ip("192.0.2.7"), 40000, sender));
        assert!(!list.permits(ip("192.0.2.8"), 40000, sender));
        assert!(!list.permits(ip("192.0.2.7"), 22, sender), "no privileged port");
        assert!(list.permits(ip("10.0.0.9"), 1024, Source::Another));
        for elsewhere in ["10.0.1.9", "127.0.0.1", "fd77::1", "255.255.255.255", "224.0.0.1", "0.0.0.0"] {
            assert!(!list.permits(ip(elsewhere), 40000, Source::Another), "{elsewhere}");
        }
    }

    #[test]
    fn a_list_says_all_there_is_to_say() {
        let list = ["10.9.0.0/16 80", "fd77::/16", "10.8.0.1 8000-8999"].map(|text| text.parse().unwrap());
        let list = AllowList::new(list.to_vec());
        let sender = Source::Itself(ip("192.0.2.7"));
        for (address, port, is_allowed) in [
            ("10.9.3.4", 80, true),
            ("10.9.3.4", 81, false),
            ("10.8.0.1", 8500, true),
            ("10.8.0.2", 8500, false),
            ("fd77::9", 1024, true),
            ("fd77::9", 1023, false),
            ("192.0.2.7", 40000, false),
        ] {
            assert_eq!(list.permits(ip(address), port, sender), is_allowed, "{address} {port}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in
            ["", "ten", "10.0.0.0/33", "10.0.0.0/8 0", "10.0.0.0/8 9-8", "10.0.0.0/8 x", "fd77::/129"]
        {
            assert_eq!(wrong.parse::<Allowed>(), Err(NotAllowed), "{wrong}");
        }
        assert_eq!("10.0.0.7".parse::<Allowed>().unwrap().to_string(), "10.0.0.7/32 1024-65535");
    }
}
