//! UDP sockets.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use bytes::Bytes;
use hailer::net::UdpOptions;

use super::icmp::Problem;
use super::packet::{Body, Packet};
use super::six::{scope_of, scoped};
use super::waiting::Waiting;
use super::{Fabric, HostId, InterfaceId};
use crate::trace::Drop;

slotmap::new_key_type! {
    /// A UDP socket.
    pub struct UdpKey;
}

/// Receive buffer of a socket: Linux's `net.core.rmem_default`.
const RECEIVE_BUFFER_BYTES: usize = 212_992;
/// What Linux charges a socket for a small datagram besides its payload.
const DATAGRAM_OVERHEAD_BYTES: usize = 768;
/// The largest payload of a datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A socket as its machine knows it: what tells whether it is asked at all stands here, because a machine has several on
/// one port and most are for other addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    address: IpAddr,
    port: u16,
    pub(super) key: UdpKey,
}

#[derive(Debug)]
// In this order in memory: what each datagram looks at comes first, in as few cache lines as it needs.
#[repr(C)]
pub(super) struct UdpSocket {
    received: VecDeque<(SocketAddr, Bytes)>,
    received_bytes: usize,
    reader: Waiting,
    host: HostId,
    local: SocketAddr,
    /// Boxed: looked at when something is sent, which is seldom beside what is heard.
    options: Box<UdpOptions>,
    /// Multicast groups, with the interface they were joined on; `None` is all of them.
    groups: Vec<(IpAddr, Option<InterfaceId>)>,
}

impl Fabric {
    /// Binds a socket.
    ///
    /// # Errors
    /// As [`hailer::net::Net::bind_udp`].
    pub fn udp_bind(&mut self, host: HostId, options: &UdpOptions) -> io::Result<UdpKey> {
        let mut local = options.at;
        let is_broadcast = self.is_broadcast_for(host, local.ip());
        if !self.is_own_address(host, local.ip()) && !is_broadcast && !local.ip().is_multicast() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if local.port() == 0 {
            local.set_port(self.free_port(host, |fabric, port| {
                fabric.hosts[host.0 as usize].udp.iter().all(|taken| taken.port != port)
            })?);
        }
        let bound = &mut self.hosts[host.0 as usize].udp;
        for other in bound.iter().filter(|other| other.port == local.port()) {
            let overlap = other.address == local.ip()
                || (other.address.is_ipv4() == local.is_ipv4()
                    && (other.address.is_unspecified() || local.ip().is_unspecified()));
            if overlap && !(self.udp[other.key].options.reuse && options.reuse) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
        }
        let key = self.udp.insert(UdpSocket {
            host,
            local,
            options: Box::new(options.clone()),
            groups: Vec::new(),
            received: VecDeque::new(),
            received_bytes: 0,
            reader: Waiting::default(),
        });
        bound.push(Bound { address: local.ip(), port: local.port(), key });
        Ok(key)
    }

    /// Closes a socket.
    pub fn udp_close(&mut self, key: UdpKey) {
        if let Some(socket) = self.udp.remove(key) {
            self.hosts[socket.host.0 as usize].udp.retain(|other| other.key != key);
        }
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// `NotConnected` when the socket is gone.
    pub fn udp_local(&self, key: UdpKey) -> io::Result<SocketAddr> {
        Ok(self.udp.get(key).ok_or(io::ErrorKind::NotConnected)?.local)
    }

    /// Joins a multicast group on the interface with this address.
    ///
    /// # Errors
    /// `InvalidInput` when the group is not a multicast address; `AddrNotAvailable` when no interface has the address.
    pub fn udp_join(&mut self, key: UdpKey, group: IpAddr, on: IpAddr) -> io::Result<()> {
        if !group.is_multicast() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{group} is not a multicast address"),
            ));
        }
        let host = self.udp.get(key).ok_or(io::ErrorKind::NotConnected)?.host;
        if !self.is_own_address(host, on) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if group.is_ipv4() != on.is_ipv4() {
            let message = "a multicast group and the interface's address must both be IPv4 or both be IPv6";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut own = self.hosts[host.index()].interfaces.iter();
        let interface = own.find(|id| self.interfaces[id.index()].has(on)).copied();
        self.udp[key].groups.push((group, interface));
        Ok(())
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// As [`hailer::net::UdpSocket::send_to`]; `InvalidInput` when the socket's address is not the machine's any more.
    pub fn udp_send(&mut self, key: UdpKey, payload: &[u8], to: SocketAddr) -> io::Result<usize> {
        let socket = self.udp.get(key).ok_or(io::ErrorKind::NotConnected)?;
        let (host, local) = (socket.host, socket.local);
        if payload.len() > DATAGRAM_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
        }
        if local.is_ipv4() != to.is_ipv4() {
            let message = "a socket sends to addresses of its own family";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let is_broadcast =
            self.is_broadcast_for(host, to.ip()) || matches!(to.ip(), IpAddr::V4(to) if to.is_broadcast());
        if is_broadcast && !socket.options.broadcast {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bound = Some(local.ip())
            .filter(|address| self.is_own_address(host, *address) && !address.is_unspecified());
        let hint = if to.ip().is_multicast() { socket.options.multicast_from.or(bound) } else { bound };
        let is_gone = bound.is_none()
            && !local.ip().is_unspecified()
            && !local.ip().is_multicast()
            && !self.is_broadcast_for(host, local.ip());
        if is_gone {
            // Linux says so when the address that the socket is bound to is not the machine's any more.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let source = match hint {
            Some(address) => address,
            None => self.source_for(host, to, None)?,
        };
        let from = scoped(source, local.port(), scope_of(to));
        let mut packet = Packet::new(from, to, Body::Udp(Bytes::copy_from_slice(payload)));
        if packet.is_multicast() {
            packet.ttl = self.udp[key].options.multicast_ttl;
        }
        if to.is_ipv6()
            && let Some(mtu) = self.path_mtu(host, to.ip())
        {
            packet.cut_for(mtu);
        }
        self.transmit(host, packet, hint)?;
        Ok(payload.len())
    }

    /// Whether a received datagram is there to be taken.
    pub fn udp_poll_readable(&mut self, key: UdpKey, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = self.udp.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if socket.received.is_empty() {
            socket.reader.wait(context);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a received datagram, cut to the size of `buffer`.
    pub fn udp_poll_recv(
        &mut self,
        key: UdpKey,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let Some(socket) = self.udp.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some((from, payload)) = socket.received.pop_front() else {
            // The next one takes the first place, which is still in a cache.
            socket.received.clear();
            socket.reader.wait(context);
            return Poll::Pending;
        };
        socket.received_bytes -= payload.len() + DATAGRAM_OVERHEAD_BYTES;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Poll::Ready(Ok((len, from)))
    }

    /// Hands a datagram to every socket that it is meant for: all of them for a broadcast or a multicast, the most
    /// closely bound and youngest for anything else, as Linux does.
    pub(super) fn deliver_udp(&mut self, host: HostId, entered: Option<InterfaceId>, packet: &Packet) {
        let to = packet.to.ip();
        let is_multicast = packet.is_multicast();
        let is_for_all = is_multicast
            || entered.is_some_and(|entered| self.is_broadcast_on(entered, to))
            || self.is_broadcast_for(host, to);
        // A group is joined on an interface; what the machine itself sent is heard on any.
        let joined = |(group, on): &(IpAddr, Option<InterfaceId>)| {
            *group == to && (on.is_none() || entered.is_none() || *on == entered)
        };
        let hears = |key: &UdpKey| !is_multicast || self.udp[*key].groups.iter().any(joined);
        let hearers: Vec<UdpKey> = if is_for_all {
            self.hearers_of(host, packet).filter(hears).collect()
        } else {
            let bound = || self.bound_for(host, packet);
            let exact = bound().rev().find(|bound| bound.address == to);
            exact.or_else(|| bound().next_back()).map(|bound| bound.key).into_iter().collect()
        };
        for key in &hearers {
            self.put_datagram(host, *key, packet);
            self.wake_reader(*key);
        }
        if hearers.is_empty() && !is_multicast {
            self.refuse_datagram(host, packet.clone());
        }
    }

    /// The sockets of a machine that hear a broadcast, oldest first.
    pub(super) fn hearers_of(&self, host: HostId, packet: &Packet) -> impl Iterator<Item = UdpKey> {
        self.bound_for(host, packet).map(|bound| bound.key)
    }

    /// The sockets of a machine that are bound to a datagram's destination or to any, oldest first.
    fn bound_for(&self, host: HostId, packet: &Packet) -> impl DoubleEndedIterator<Item = &Bound> {
        let (to, port, is_datagram) = (packet.to.ip(), packet.to.port(), matches!(packet.body, Body::Udp(_)));
        self.hosts[host.index()].udp.iter().filter(move |Bound { address, port: own, .. }| {
            is_datagram
                && *own == port
                && (*address == to || (address.is_unspecified() && address.is_ipv4() == to.is_ipv4()))
        })
    }

    /// Puts a datagram into a socket's queue, if there is room.
    pub(super) fn put_datagram(&mut self, host: HostId, key: UdpKey, packet: &Packet) {
        let Body::Udp(payload) = &packet.body else { return };
        if let Err(QueueFull) = self.udp[key].take(packet.from, payload) {
            self.counters.dropped(host, Drop::QueueFull, packet);
        }
    }

    /// Wakes who waits for a socket's datagrams.
    pub(super) fn wake_reader(&mut self, key: UdpKey) {
        self.udp[key].reader.wake();
    }

    /// Nobody has the port.
    fn refuse_datagram(&mut self, host: HostId, packet: Packet) {
        self.counters.dropped(host, Drop::NoSocket, &packet);
        self.complain(host, Problem::PortUnreachable, packet);
    }
}

struct QueueFull;

impl UdpSocket {
    fn take(&mut self, from: SocketAddr, payload: &Bytes) -> Result<(), QueueFull> {
        let charge = payload.len() + DATAGRAM_OVERHEAD_BYTES;
        if self.received_bytes + charge > RECEIVE_BUFFER_BYTES {
            return Err(QueueFull);
        }
        self.received_bytes += charge;
        self.received.push_back((from, payload.clone()));
        Ok(())
    }
}
