//! Where a membership is on the network: its sockets on each interface, and what it says of itself there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::announcement::{Announcement, MemberId};
use super::config::Config;
use super::error::JoinError;
use super::message::{Entry, Message, Told};
use super::uri::HealthUri;
use crate::net::{Interface, Net, Task, UdpOptions, UdpSocket};

/// Where pir announces: all machines of the network.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// The same for IPv6.
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A datagram that came, and from where.
pub(super) type Heard = (Vec<u8>, SocketAddr);
/// Datagrams that wait for the machine. More wait in the kernel.
pub(super) const HEARD: usize = 64;

/// The sockets of a membership. Dropping it closes them.
pub(super) struct Sites<N: Net> {
    /// The interfaces that are used, as they were.
    pub(super) interfaces: Vec<Interface>,
    sites: Vec<Site<N>>,
    _hearing: Vec<Task>,
}

/// One interface in one family.
struct Site<N: Net> {
    interface: Interface,
    /// Sends, and hears what is for this member alone.
    mouth: Arc<N::Udp>,
    port: u16,
    group: SocketAddr,
}

impl<N: Net> Sites<N> {
    /// Binds what is needed on these interfaces; what is heard goes to `heard`.
    ///
    /// # Errors
    /// When the port of the group is not to be had, or no interface lets anything be sent.
    pub(super) fn open(
        net: &N,
        config: &Config,
        interfaces: Vec<Interface>,
        heard: &mpsc::Sender<Heard>,
    ) -> Result<Self, JoinError> {
        let mut sockets = Vec::new();
        let mut sites = Vec::new();
        let mut last = None;
        for is_v4 in [true, false] {
            let family = || interfaces.iter().filter(|interface| interface.address.is_ipv4() == is_v4);
            if family().next().is_none() {
                continue;
            }
            let any: IpAddr = if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let at = SocketAddr::new(any, config.port);
            let ear = match net.bind_udp(&UdpOptions { reuse: true, ..UdpOptions::at(at) }) {
                Ok(ear) => Arc::new(ear),
                Err(source) => {
                    last = Some(JoinError::Bind { at, source });
                    continue;
                }
            };
            for interface in family() {
                match Site::open(net, config, interface, &ear) {
                    Ok(site) => {
                        sockets.push(site.mouth.clone());
                        sites.push(site);
                    }
                    Err(source) => {
                        warn!(interface = interface.name, address = %interface.address, error = %source, "interface not used");
                        last = Some(JoinError::Bind { at: SocketAddr::new(interface.address, 0), source });
                    }
                }
            }
            sockets.push(ear);
        }
        if let (true, Some(error)) = (sites.is_empty(), last) {
            return Err(error);
        }
        let hearing =
            sockets.into_iter().map(|socket| net.spawn("group ear", hear::<N>(socket, heard.clone())));
        let hearing = hearing.collect();
        Ok(Self { interfaces, sites, _hearing: hearing })
    }

    /// What this member says of itself at its first address.
    pub(super) fn entry(
        &self,
        config: &Config,
        own: MemberId,
        health_port: u16,
        version: u32,
    ) -> Option<Entry> {
        self.sites.first()?.entry(config, own, health_port, version)
    }

    /// Says who this member is, on every interface: in pir's words, and in ours when `version` is not 0.
    pub(super) async fn announce(&self, config: &Config, own: MemberId, health_port: u16, version: u32) {
        for site in &self.sites {
            let Some(entry) = site.entry(config, own, health_port, version) else { continue };
            let announcement = Announcement {
                group: config.name.clone(),
                member: own,
                health: entry.health.clone(),
                service: entry.service.clone(),
            };
            site.send(&announcement.encode(), site.group).await;
            if version > 0 {
                site.say(config, own, Message::Here(entry)).await;
            }
        }
    }

    /// Says on every interface that this member lives.
    pub(super) async fn refute(&self, config: &Config, own: MemberId, health_port: u16, version: u32) {
        for site in &self.sites {
            if let Some(entry) = site.entry(config, own, health_port, version) {
                site.say(config, own, Message::Alive(vec![entry])).await;
            }
        }
    }

    /// Tells everybody.
    pub(super) async fn tell_all(&self, config: &Config, own: MemberId, message: &Message) {
        for site in &self.sites {
            site.say(config, own, message.clone()).await;
        }
    }

    /// Tells one, out of the interface that is on its network.
    pub(super) async fn tell_one(&self, told: &Told, to: SocketAddr) {
        let fits = |site: &&Site<N>| site.interface.address.is_ipv4() == to.is_ipv4();
        let is_near = |site: &&Site<N>| fits(site) && is_neighbour(&site.interface, to.ip());
        let site = self.sites.iter().find(is_near).or_else(|| self.sites.iter().find(fits));
        let Some(site) = site else { return };
        for datagram in told.encode() {
            site.send(&datagram, to).await;
        }
    }
}

impl<N: Net> Site<N> {
    fn open(net: &N, config: &Config, interface: &Interface, ear: &N::Udp) -> io::Result<Self> {
        let address = interface.address;
        let (at, group): (SocketAddr, SocketAddr) = match address {
            IpAddr::V4(_) => ((address, 0).into(), (GROUP_V4, config.port).into()),
            IpAddr::V6(own) => {
                let scope = if own.is_unicast_link_local() { interface.index } else { 0 };
                let group = SocketAddrV6::new(GROUP_V6, config.port, 0, interface.index);
                (SocketAddrV6::new(own, 0, 0, scope).into(), group.into())
            }
        };
        ear.join_multicast(group.ip(), interface)?;
        let mouth = net.bind_udp(&UdpOptions { multicast_from: Some(address), ..UdpOptions::at(at) })?;
        let port = mouth.local_addr()?.port();
        Ok(Self { interface: interface.clone(), mouth: Arc::new(mouth), port, group })
    }

    fn entry(&self, config: &Config, own: MemberId, health_port: u16, version: u32) -> Option<Entry> {
        let address = self.interface.address;
        Some(Entry {
            member: own,
            version,
            port: self.port,
            health: HealthUri::answer(SocketAddr::new(address, health_port)),
            service: config.service.as_ref()?.at(address),
            check: config.check.as_ref().map(|check| check.at_address(address)),
        })
    }

    async fn say(&self, config: &Config, own: MemberId, message: Message) {
        let told = Told { group: config.name.clone(), sender: own, message };
        for datagram in told.encode() {
            self.send(&datagram, self.group).await;
        }
    }

    async fn send(&self, datagram: &str, to: SocketAddr) {
        if let Err(error) = self.mouth.send_to(datagram.as_bytes(), to).await {
            debug!(interface = self.interface.name, %to, %error, "datagram not sent");
        }
    }
}

/// Takes datagrams from a socket until its task ends.
async fn hear<N: Net>(socket: Arc<N::Udp>, heard: mpsc::Sender<Heard>) {
    let mut buffer = vec![0; Announcement::LEN_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                if heard.send((buffer[..len].to_vec(), from)).await.is_err() {
                    return;
                }
            }
            Err(error) => debug!(%error, "no datagram"),
        }
    }
}

/// The interfaces to use: those that are named, or all that are up and are neither loopbacks nor tunnels; loopbacks when
/// there is nothing else. Of each, one address in each family; one that means nothing off its link only when it has no
/// other, because services are announced at these addresses.
pub(super) fn choose(all: &[Interface], wanted: &[String]) -> Vec<Interface> {
    let is_wanted = |interface: &Interface| {
        let is_it = |name: &String| {
            *name == interface.name
                || *name == interface.index.to_string()
                || *name == interface.address.to_string()
        };
        if wanted.is_empty() { !interface.is_point_to_point } else { wanted.iter().any(is_it) }
    };
    let mut usable: Vec<&Interface> =
        all.iter().filter(|interface| interface.is_up && is_wanted(interface)).collect();
    if wanted.is_empty() && usable.iter().any(|interface| !interface.is_loopback) {
        usable.retain(|interface| !interface.is_loopback);
    }
    let is_local = |interface: &Interface| matches!(interface.address, IpAddr::V6(address) if address.is_unicast_link_local());
    usable.sort_by_key(|interface| is_local(interface));
    let mut chosen: Vec<Interface> = Vec::new();
    for interface in usable {
        let is_same = |other: &Interface| {
            let is_same_family = other.address.is_ipv4() == interface.address.is_ipv4();
            other.index == interface.index && (is_same_family || is_local(interface))
        };
        if !chosen.iter().any(is_same) {
            chosen.push(interface.clone());
        }
    }
    chosen.sort_by_key(|interface| (interface.index, interface.address));
    chosen
}

fn is_neighbour(interface: &Interface, address: IpAddr) -> bool {
    match (interface.address, address) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            let host_bits = u32::MAX.checked_shr(interface.prefix.into()).unwrap_or(0);
            (own.to_bits() ^ other.to_bits()) & !host_bits == 0
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => {
            let host_bits = u128::MAX.checked_shr(interface.prefix.into()).unwrap_or(0);
            (own.to_bits() ^ other.to_bits()) & !host_bits == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32, address: &str) -> Interface {
        let address: IpAddr = address.parse().unwrap();
        Interface {
            name: name.to_owned(),
            index,
            address,
            prefix: 24,
            broadcast: None,
            is_loopback: address.is_loopback(),
            is_point_to_point: name.starts_with("tun"),
            is_up: true,
        }
    }

    fn chosen(all: &[Interface], wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        choose(all, &wanted).iter().map(|interface| interface.address.to_string()).collect()
    }

    #[test]
    fn every_interface_is_used_once_in_each_family() {
        let all = [
            interface("lo", 1, "127.0.0.1"),
            interface("eth0", 2, "fe80::2"),
            interface("eth0", 2, "10.0.0.2"),
            interface("eth0", 2, "10.0.0.3"),
            interface("eth0", 2, "fd77::2"),
            interface("tun0", 3, "10.8.0.1"),
            interface("wlan0", 4, "fe80::4"),
        ];
        assert_eq!(chosen(&all, &[]), ["10.0.0.2", "fd77::2", "fe80::4"]);
        assert_eq!(chosen(&all, &["tun0", "4"]), ["10.8.0.1", "fe80::4"]);
        assert_eq!(chosen(&all[..1], &[]), ["127.0.0.1"]);
        assert_eq!(chosen(&all[1..3], &[]), ["10.0.0.2"]);
        assert_eq!(chosen(&all, &["eth9"]), Vec::<String>::new());
    }
}
