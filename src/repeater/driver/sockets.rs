//! Binds the sockets of a repeater. Nothing is sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tracing::debug;

use crate::net::{Interface, Net, UdpOptions, UdpSocket};
use crate::repeater::machine::Lan;
use crate::repeater::registry::{self, RegistrySockets};
use crate::repeater::{Config, StartError};

/// What a repeater needs from the start.
#[derive(Debug)]
pub(in crate::repeater) struct Sockets<N: Net> {
    /// Bound to the beacon port at any address: hears beacons of all LANs.
    pub(super) ear: N::Udp,
    pub(super) mouths: Vec<Mouth<N>>,
    pub(super) publisher: N::Listener,
    pub(super) registries: Option<RegistrySockets<N>>,
}

/// Speaks on a LAN.
#[derive(Debug)]
pub(super) struct Mouth<N: Net> {
    pub(super) lan: Lan,
    interface: Interface,
    socket: N::Udp,
    /// Where everybody is: the broadcast address, and multicast groups.
    everybody: Vec<SocketAddr>,
}

impl<N: Net> Mouth<N> {
    /// Tells everybody, or one.
    pub(super) async fn say(&self, to: Option<SocketAddr>, datagram: &[u8]) {
        for to in to.as_ref().map_or(&self.everybody[..], std::slice::from_ref) {
            if let Err(error) = self.socket.send_to(datagram, *to).await {
                debug!(%error, %to, "beacon not told");
            }
        }
    }
}

impl<N: Net> Sockets<N> {
    pub(in crate::repeater) fn describe(&self) -> Vec<String> {
        self.mouths.iter().map(|mouth| format!("{} {}", mouth.interface.name, mouth.lan.address)).collect()
    }
}

/// Chooses the interfaces and binds what a repeater needs.
pub(in crate::repeater) fn bind<N: Net>(net: &N, config: &Config) -> Result<Sockets<N>, StartError> {
    let interfaces = choose(&net.interfaces().map_err(StartError::Interfaces)?, &config.interfaces)?;
    let udp = |options: &UdpOptions| {
        net.bind_udp(options).map_err(|source| StartError::Udp { at: options.at, source })
    };
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.port));
    let ear = udp(&UdpOptions { reuse: true, broadcast: true, ..UdpOptions::at(at) })?;
    let mut mouths = Vec::new();
    for (interface, address) in &interfaces {
        for group in &config.multicast {
            // An interface without multicast still has broadcast.
            if let Err(error) = ear.join_multicast(IpAddr::V4(*group), interface) {
                debug!(%error, %group, interface = interface.name, "multicast group not joined");
            }
        }
        let at = SocketAddr::from((*address, 0));
        let multicast_from = Some(IpAddr::V4(*address));
        let socket = udp(&UdpOptions { broadcast: true, multicast_from, ..UdpOptions::at(at) })?;
        let groups = config.multicast.iter().map(|group| SocketAddr::from((*group, config.port)));
        let everybody = std::iter::once(SocketAddr::new(broadcast(interface), config.port)).chain(groups);
        let lan = Lan { address: *address, prefix: interface.prefix };
        mouths.push(Mouth { lan, interface: interface.clone(), socket, everybody: everybody.collect() });
    }
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.publish_port));
    let publisher = net.listen(at).map_err(|source| StartError::Listen { at, source })?;
    let registries = registry::bind(net, config, &interfaces)?;
    Ok(Sockets { ear, mouths, publisher, registries: Some(registries) })
}

/// The interfaces that are named, or the one that a node would use.
fn choose(interfaces: &[Interface], wanted: &[String]) -> Result<Vec<(Interface, Ipv4Addr)>, StartError> {
    let usable = interfaces.iter().filter_map(|interface| match interface.address {
        IpAddr::V4(address) if interface.is_up => Some((interface.clone(), address)),
        _ => None,
    });
    let none = |wanted: Option<&String>| {
        let found = interfaces.iter().map(|interface| format!("{} {}", interface.name, interface.address));
        StartError::NoInterface { wanted: wanted.cloned(), found: found.collect() }
    };
    if wanted.is_empty() {
        let ordinary = usable.filter(|(interface, _)| !interface.is_loopback && !interface.is_point_to_point);
        let best = ordinary.min_by_key(|(interface, _)| interface.broadcast.is_none());
        return best.map(|best| vec![best]).ok_or_else(|| none(None));
    }
    let usable: Vec<_> = usable.collect();
    let mut chosen: Vec<(Interface, Ipv4Addr)> = Vec::new();
    for wanted in wanted {
        let is_wanted = |(interface, address): &&(Interface, Ipv4Addr)| {
            interface.name == *wanted
                || interface.index.to_string() == *wanted
                || address.to_string() == *wanted
        };
        let found = usable.iter().find(is_wanted).ok_or_else(|| none(Some(wanted)))?;
        if chosen.iter().all(|(_, address)| *address != found.1) {
            chosen.push(found.clone());
        }
    }
    Ok(chosen)
}

/// Where datagrams for everybody go; as for a node.
fn broadcast(interface: &Interface) -> IpAddr {
    match (interface.broadcast, interface.address) {
        (Some(broadcast), _) => broadcast,
        (None, IpAddr::V4(address)) if interface.is_loopback => {
            let host_bits = u32::MAX.checked_shr(interface.prefix.into()).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() | host_bits))
        }
        (None, _) => IpAddr::V4(Ipv4Addr::BROADCAST),
    }
}
