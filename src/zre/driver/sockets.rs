//! The sockets of a node: ears that hear beacons, and for each of its addresses a door with a mouth that sends them and a
//! listener. Addresses come and go while the node runs; ears stay.
//!
//! Every door has the same TCP port, because a beacon carries one and the same datagram leaves by all of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use tracing::{debug, info};

use crate::net::{Interface, Net, TcpListener, UdpOptions, UdpSocket};
use crate::zre::interface::{Site, Wanted, broadcast, choose, is_beaconing, is_same, scope};
use crate::zre::machine::Home;
use crate::zre::{Broadcast, Config, Multicast, StartError};

/// The groups that other implementations beacon to: the Haskell tools, gyre, go-zyre.
pub(super) const GROUPS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(225, 25, 25, 25), Ipv4Addr::new(224, 0, 0, 250), Ipv4Addr::new(224, 0, 0, 1)];
/// All nodes of a link (zyre and go-zyre beacon there over IPv6), and gyre's group.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GYRE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfa);

/// By which way beacons come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Where everybody beacons to.
    Common,
    /// One of [`GROUPS`].
    Group(usize),
}

/// A socket that hears beacons.
pub(super) struct Ear<N: Net> {
    pub(super) socket: N::Udp,
    pub(super) way: Way,
}

/// What a node has at one of its addresses.
pub(super) struct Door<N: Net> {
    home: Interface,
    mouth: Arc<N::Udp>,
    pub(super) listener: Arc<N::Listener>,
    /// Where every beacon goes.
    common: Vec<SocketAddr>,
    /// Where beacons go when somebody is there: one for each of [`GROUPS`], or gyre's.
    groups: Vec<SocketAddr>,
}

/// The sockets of a node.
// In this order in memory: what each beacon looks at comes first, in as few cache lines as it needs.
#[repr(C)]
pub(in crate::zre) struct Sockets<N: Net> {
    pub(super) ears: Vec<Ear<N>>,
    pub(super) site: Site,
    pub(super) doors: Vec<Door<N>>,
    wanted: Wanted,
    broadcast: Broadcast,
    beacon_port: u16,
    tcp_port: u16,
}

/// Chooses interfaces and binds what a node needs. Nothing is sent.
pub(in crate::zre) fn bind<N: Net>(net: &N, config: &Config) -> Result<Sockets<N>, StartError> {
    let wanted = Wanted { interfaces: config.interfaces.clone(), ipv6: config.ipv6 };
    let interfaces = net.interfaces().map_err(StartError::Interfaces)?;
    let site = choose(&interfaces, &wanted, None)?;
    let mut sockets = Sockets {
        ears: Vec::new(),
        doors: Vec::new(),
        wanted,
        broadcast: config.broadcast,
        beacon_port: config.port,
        tcp_port: config.tcp_port,
        site,
    };
    if config.beacon {
        sockets.open_ears(net, config.multicast)?;
    }
    sockets.open_first_doors(net)?;
    Ok(sockets)
}

impl<N: Net> Sockets<N> {
    /// Where the node is, the first home first.
    pub(in crate::zre) fn homes(&self) -> Vec<Home> {
        self.doors.iter().map(|door| home_of(&door.home)).collect()
    }

    /// Where the node is found by those who are on none of its networks.
    pub(in crate::zre) fn inbox(&self) -> SocketAddr {
        let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.tcp_port));
        self.doors.first().map_or(unspecified, |door| at(&door.home, self.tcp_port))
    }

    /// What a beacon is to be sent by and where to. `is_spoken` says for each of [`GROUPS`] whether somebody there listens.
    pub(super) fn targets(&self, is_spoken: impl Fn(Way) -> bool) -> Vec<(Arc<N::Udp>, SocketAddr)> {
        let mut targets = Vec::with_capacity(self.doors.len());
        for door in &self.doors {
            let groups = door.groups.iter().enumerate().filter(|(group, _)| is_spoken(Way::Group(*group)));
            let all = door.common.iter().chain(groups.map(|(_, group)| group));
            targets.extend(all.map(|to| (Arc::clone(&door.mouth), *to)));
        }
        targets
    }

    /// What a beacon to the node that sends from this address is to be sent by: the door on its network, or the first
    /// that can.
    pub(super) fn target(&self, mut to: SocketAddr) -> Option<(Arc<N::Udp>, SocketAddr)> {
        to.set_port(self.beacon_port);
        let is_near = |door: &&Door<N>| home_of(&door.home).is_near(to);
        let is_of_kind = |door: &&Door<N>| door.home.address.is_ipv4() == to.is_ipv4();
        let door = self.doors.iter().find(is_near).or_else(|| self.doors.iter().find(is_of_kind))?;
        Some((Arc::clone(&door.mouth), to))
    }

    /// Looks whether the machine's addresses are what they were; whether that changed the doors.
    pub(super) fn renew(&mut self, net: &N) -> bool {
        let site = match net.interfaces() {
            // Without any, there is nothing to do but wait.
            Ok(interfaces) => choose(&interfaces, &self.wanted, Some(&self.site)).unwrap_or_default(),
            Err(error) => {
                debug!(%error, "interfaces not listed");
                return false;
            }
        };
        let before = self.doors.len();
        self.doors.retain(|door| site.homes.iter().any(|home| is_same(&door.home, home)));
        let mut is_changed = self.doors.len() != before;
        for home in &site.homes {
            if self.doors.iter().any(|door| is_same(&door.home, home)) {
                continue;
            }
            match self.open_door(net, home, &site.homes, self.tcp_port) {
                Ok(door) => {
                    info!(interface = home.name, address = %home.address, "address added");
                    self.doors.push(door);
                    is_changed = true;
                }
                // An address may be of no use for some time after it appears, as those of IPv6.
                Err(error) => debug!(address = %home.address, %error, "address not used yet"),
            }
        }
        let place = |door: &Door<N>| site.homes.iter().position(|home| is_same(&door.home, home));
        self.doors.sort_by_key(place);
        // With nothing left, what was chosen is remembered: it may come back.
        if !site.homes.is_empty() {
            self.site = site;
        }
        is_changed
    }

    fn open_ears(&mut self, net: &N, multicast: Multicast) -> Result<(), StartError> {
        let port = self.beacon_port;
        let open = |address: IpAddr| {
            let at = SocketAddr::new(address, port);
            let options = UdpOptions { reuse: true, broadcast: true, ..UdpOptions::at(at) };
            net.bind_udp(&options).map_err(|source| StartError::Beacon { at, source })
        };
        let mut add = |socket, way| self.ears.push(Ear { socket, way });
        add(open(Ipv4Addr::UNSPECIFIED.into())?, Way::Common);
        if self.wanted.ipv6 {
            add(open(Ipv6Addr::UNSPECIFIED.into())?, Way::Common);
        }
        if multicast == Multicast::Never {
            return Ok(());
        }
        for (number, group) in GROUPS.into_iter().enumerate() {
            match open(group.into()) {
                Ok(socket) => add(socket, Way::Group(number)),
                // Not every system binds to a group. Broadcasts are enough for most of the family.
                Err(error) => debug!(%group, %error, "beacons of this group are not heard"),
            }
        }
        Ok(())
    }

    /// Listens on the port that is given, or else on the first that is free from 49152 on.
    fn open_first_doors(&mut self, net: &N) -> Result<(), StartError> {
        let ports = if self.tcp_port == 0 {
            Config::TCP_PORT_FIRST..=u16::MAX
        } else {
            self.tcp_port..=self.tcp_port
        };
        let homes = self.site.homes.clone();
        let mut last = None;
        for port in ports {
            match self.open_doors(net, &homes, port) {
                Ok(doors) => {
                    self.doors = doors;
                    self.tcp_port = port;
                    return Ok(());
                }
                Err(error) => {
                    let is_taken = matches!(&error, StartError::Listen { source, .. }
                        if source.kind() == io::ErrorKind::AddrInUse);
                    last = Some(error);
                    if !is_taken {
                        break;
                    }
                }
            }
        }
        Err(last.expect("a range of ports is not empty"))
    }

    /// Doors at all of these with one port. One at least has to open; those that are of no use yet will be tried again.
    fn open_doors(&self, net: &N, homes: &[Interface], port: u16) -> Result<Vec<Door<N>>, StartError> {
        let mut doors = Vec::with_capacity(homes.len());
        for home in homes {
            match self.open_door(net, home, homes, port) {
                Ok(door) => doors.push(door),
                Err(StartError::Listen { source, .. })
                    if source.kind() == io::ErrorKind::AddrNotAvailable && home.address.is_ipv6() =>
                {
                    debug!(address = %home.address, "address not used yet");
                }
                Err(error) => return Err(error),
            }
        }
        match (doors.is_empty(), homes.first()) {
            (true, Some(home)) => {
                Err(StartError::Listen { at: at(home, port), source: io::ErrorKind::AddrNotAvailable.into() })
            }
            _ => Ok(doors),
        }
    }

    fn open_door(
        &self,
        net: &N,
        home: &Interface,
        homes: &[Interface],
        port: u16,
    ) -> Result<Door<N>, StartError> {
        let listen_at = at(home, port);
        let listener = net
            .listen(listen_at)
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|source| StartError::Listen { at: listen_at, source })?;
        let options =
            UdpOptions { broadcast: true, multicast_from: Some(home.address), ..UdpOptions::at(at(home, 0)) };
        let mouth = net.bind_udp(&options).map_err(|source| StartError::Beacon { at: options.at, source })?;
        self.join_groups(home);
        let (common, groups) =
            if is_beaconing(home, homes) { self.destinations(home) } else { Default::default() };
        Ok(Door {
            home: home.clone(),
            mouth: Arc::new(mouth),
            listener: Arc::new(listener.1),
            common,
            groups,
        })
    }

    /// Hears the groups on this interface.
    fn join_groups(&self, home: &Interface) {
        for ear in &self.ears {
            let is_v6 = ear.socket.local_addr().is_ok_and(|at| at.is_ipv6());
            let groups: Vec<IpAddr> = match (is_v6, ear.way) {
                (true, _) if home.address.is_ipv6() => vec![ALL_NODES.into(), GYRE.into()],
                (false, Way::Group(group)) if home.address.is_ipv4() => vec![GROUPS[group].into()],
                _ => continue,
            };
            for group in groups {
                // It may be joined already: of an address that came back, or of another one of the same interface.
                if let Err(error) = ear.socket.join_multicast(group, home) {
                    debug!(%group, interface = home.name, %error, "group not joined");
                }
            }
        }
    }

    /// Where beacons of this home always go, and where they go when somebody is there.
    fn destinations(&self, home: &Interface) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        match home.address {
            IpAddr::V4(address) => {
                let to = |to: Ipv4Addr| SocketAddr::from((to, self.beacon_port));
                let directed = to(broadcast(home, address));
                let limited = to(Ipv4Addr::BROADCAST);
                let mut common = match self.broadcast {
                    Broadcast::Directed => vec![directed],
                    Broadcast::Limited => vec![limited],
                    Broadcast::Both => vec![directed, limited],
                    Broadcast::Never => Vec::new(),
                };
                common.dedup();
                (common, GROUPS.map(to).to_vec())
            }
            IpAddr::V6(_) => {
                // A group of the link means nothing without its link.
                let to = |to| SocketAddrV6::new(to, self.beacon_port, 0, home.index).into();
                (vec![to(ALL_NODES)], vec![to(GYRE)])
            }
        }
    }
}

/// The socket address of a port at a home.
fn at(home: &Interface, port: u16) -> SocketAddr {
    match home.address {
        IpAddr::V4(address) => SocketAddr::from((address, port)),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope(home)).into(),
    }
}

fn home_of(interface: &Interface) -> Home {
    Home { address: interface.address, prefix: interface.prefix, scope: scope(interface) }
}
