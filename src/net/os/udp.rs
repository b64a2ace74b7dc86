//! UDP sockets, with the options that sharing a beacon port with other programs takes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;

use super::interfaces;
use crate::net::{Interface, UdpOptions, UdpSocket};

/// A UDP socket of the operating system. One for IPv6 carries no IPv4.
#[derive(Debug)]
pub struct OsUdp(tokio::net::UdpSocket);

impl OsUdp {
    pub(super) fn bind(options: &UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(options.at), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_broadcast(options.broadcast)?;
        set_multicast(&socket, options)?;
        // Asked for a free port, Linux would give a sharing socket one that other sharing sockets have.
        let wants_free_port = options.at.port() == 0;
        if options.reuse && !wants_free_port {
            share_port(&socket)?;
        }
        socket.bind(&options.at.into())?;
        if options.reuse && wants_free_port {
            share_port(&socket)?;
        }
        tokio::net::UdpSocket::from_std(socket.into()).map(Self)
    }
}

/// Lets other programs that share bind the same port.
///
/// Linux wants one of the two options on both sockets, whichever it is; BSD and macOS want `SO_REUSEPORT`. zyre and pyre
/// set both, others only one, so we set both. Every sharing socket hears broadcasts and multicasts; a unicast datagram
/// goes to one of them, and nobody can say which.
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    Ok(())
}

fn set_multicast(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    if options.at.is_ipv4() {
        socket.set_multicast_ttl_v4(options.multicast_ttl.into())?;
        socket.set_multicast_loop_v4(true)?;
        // Or else the socket hears every group that any program of this machine has joined.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_multicast_all_v4(false)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_multicast_hops_v6(options.multicast_ttl.into())?;
        socket.set_multicast_loop_v6(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_multicast_all_v6(false)?;
    }
    match options.multicast_from {
        None => Ok(()),
        Some(IpAddr::V4(from)) if options.at.is_ipv4() => socket.set_multicast_if_v4(&from),
        Some(from @ IpAddr::V6(_)) if options.at.is_ipv6() => {
            let all = interfaces::list()?;
            let interface = all.iter().find(|interface| interface.address == from);
            let interface = interface.ok_or(io::ErrorKind::AddrNotAvailable)?;
            socket.set_multicast_if_v6(interface.index)
        }
        Some(_) => Err(wrong_family("multicast_from and the address to bind")),
    }
}

fn wrong_family(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} must both be IPv4 or both be IPv6"))
}

impl UdpSocket for OsUdp {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        let received = self.0.poll_recv_from(context, &mut buffer);
        received.map_ok(|from| (buffer.filled().len(), from))
    }

    async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.0.send_to(datagram, to).await
    }

    fn join_multicast(&self, group: IpAddr, on: &Interface) -> io::Result<()> {
        match (group, on.address) {
            (IpAddr::V4(group), IpAddr::V4(address)) => self.0.join_multicast_v4(group, address),
            (IpAddr::V6(group), IpAddr::V6(_)) => SockRef::from(&self.0).join_multicast_v6(&group, on.index),
            _ => Err(wrong_family("a multicast group and the interface's address")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A socket as another program would make it, with one, the other or both of the sharing options.
    fn foreign(at: SocketAddr, address: bool, port: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_reuse_address(address)?;
        #[cfg(unix)]
        socket.set_reuse_port(port)?;
        socket.bind(&at.into())?;
        Ok(socket)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_port_is_shared_with_programs_that_set_either_option_whoever_comes_first() {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let sharing = |at| OsUdp::bind(&UdpOptions { reuse: true, ..UdpOptions::at(at) });
        for (address, port) in [(true, false), (false, true), (true, true)] {
            let ours = sharing(any).unwrap();
            foreign(ours.local_addr().unwrap(), address, port).expect("they come second");
            let theirs = foreign(any, address, port).unwrap();
            sharing(theirs.local_addr().unwrap().as_socket().unwrap()).expect("we come second");
        }
        let ours = sharing(any).unwrap();
        let refused = foreign(ours.local_addr().unwrap(), false, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    /// Four hundred draws from Linux's 28,000 ports: ports that may repeat would do so nineteen times in twenty.
    #[tokio::test]
    async fn a_free_port_is_free_of_sharing_sockets_too() {
        let any = UdpOptions { reuse: true, ..UdpOptions::at((Ipv4Addr::LOCALHOST, 0).into()) };
        let sockets: Vec<_> = (0..400).map(|_| OsUdp::bind(&any).unwrap()).collect();
        let mut ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), sockets.len());
    }

    #[tokio::test]
    async fn families_are_not_mixed() {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let from_v6 = UdpOptions { multicast_from: Some("::1".parse().unwrap()), ..UdpOptions::at(at) };
        assert_eq!(OsUdp::bind(&from_v6).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let socket = OsUdp::bind(&UdpOptions::at(at)).unwrap();
        let lo = interfaces::list()
            .unwrap()
            .into_iter()
            .find(|it| it.is_loopback && it.address.is_ipv4())
            .unwrap();
        let refused = socket.join_multicast("ff02::1".parse().unwrap(), &lo).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
