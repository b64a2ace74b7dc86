//! Binds the sockets of a node. Nothing is sent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Sockets;
use crate::net::{Net, TcpListener, UdpOptions};
use crate::zre::interface::{Site, choose};
use crate::zre::{Config, StartError};

/// Chooses the interface and binds what a node needs: two UDP sockets, as czmq has them, and a listener.
pub(in crate::zre) fn bind<N: Net>(net: &N, config: &Config) -> Result<Sockets<N>, StartError> {
    let interfaces = net.interfaces().map_err(StartError::Interfaces)?;
    let site = choose(&interfaces, config.interface.as_deref())?;
    let udp = |address: Ipv4Addr, port| {
        let at = SocketAddr::from((address, port));
        let options = UdpOptions { reuse: port != 0, broadcast: true, ..UdpOptions::at(at) };
        net.bind_udp(&options).map_err(|source| StartError::Beacon { at, source })
    };
    // Without beacons nobody sends anything to the port that it gets.
    let ear = udp(Ipv4Addr::UNSPECIFIED, if config.beacon { config.port } else { 0 })?;
    let mouth = udp(site.address, 0)?;
    let (listener, inbox) = listen(net, &site, config.tcp_port)?;
    let broadcast = SocketAddr::from((site.broadcast, config.port));
    Ok(Sockets { ear, mouth, broadcast, listener, inbox, site })
}

/// Listens on the port that is given, or else on the first that is free from 49152 on.
fn listen<N: Net>(net: &N, site: &Site, port: u16) -> Result<(N::Listener, SocketAddr), StartError> {
    let ports = if port == 0 { Config::TCP_PORT_FIRST..=u16::MAX } else { port..=port };
    let mut last = None;
    for port in ports {
        let at = SocketAddr::new(IpAddr::V4(site.address), port);
        match net.listen(at).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((inbox, listener)) => return Ok((listener, inbox)),
            Err(source) => {
                let is_taken = source.kind() == io::ErrorKind::AddrInUse;
                last = Some(StartError::Listen { at, source });
                if !is_taken {
                    break;
                }
            }
        }
    }
    Err(last.expect("a range of ports is not empty"))
}
