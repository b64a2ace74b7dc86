//! What machines learn of the paths to others: errors that meet a connection, and how long packets may be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::stream::{Ends, header_bytes};
use super::tcp::{Connection, Unreachable};
use super::{Fabric, HostId};

/// How long a machine believes that longer packets don't arrive (`ip_rt_mtu_expires`), and the shortest that it believes
/// of (`min_pmtu`).
const PATH_MTU_LIFE: Duration = Duration::from_secs(600);
const PATH_MTU_MIN: u16 = 552;
/// What every link takes in IPv6 (RFC 8200).
const PATH_MTU6_MIN: u16 = 1280;
/// Destinations with such a belief, at most; a further one waits until the oldest beliefs have ended.
const PATH_MTUS_MAX: usize = 1024;

impl Fabric {
    /// A router, or the machine itself, says of a segment that it came to nothing.
    pub(super) fn tcp_unreachable(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
        seq: u32,
        what: Unreachable,
    ) {
        let Some(key) = self.hosts[host.index()].connections.get(&Ends::new(remote, local)).copied() else {
            return;
        };
        let connection = &mut self.tcp[key].connection;
        if connection.has_in_flight(seq) {
            connection.on_unreachable(self.now, what);
            self.tcp_turn(key);
        }
    }

    /// A router says of a segment that only shorter packets pass.
    pub(super) fn path_mtu_is(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
        seq: u32,
        mtu: u16,
    ) {
        let Some(key) = self.hosts[host.index()].connections.get(&Ends::new(remote, local)).copied() else {
            return;
        };
        if self.tcp[key].connection.has_in_flight(seq) {
            self.believe_path_mtu(host, remote.ip(), mtu);
            let mtu = mtu.max(path_mtu_min(remote.ip()));
            self.tcp[key].connection.on_path_mss(self.now, mtu - header_bytes(remote.ip()));
            self.tcp_turn(key);
        }
    }

    /// Remembers for a while how long packets to `to` may be.
    pub(super) fn believe_path_mtu(&mut self, host: HostId, to: IpAddr, mtu: u16) {
        let (now, beliefs) = (self.now, &mut self.hosts[host.index()].path_mtus);
        beliefs.retain(|_, (_, until)| *until > now);
        if beliefs.len() < PATH_MTUS_MAX {
            let mtu = mtu.max(path_mtu_min(to));
            let known = beliefs.get(&to).map_or(u16::MAX, |(known, _)| *known);
            beliefs.insert(to, (mtu.min(known), now.after(PATH_MTU_LIFE)));
        }
    }

    /// How long packets to `to` may be, where a router has said so.
    pub(super) fn path_mtu(&self, host: HostId, to: IpAddr) -> Option<u16> {
        let (mtu, until) = self.hosts[host.index()].path_mtus.get(&to)?;
        (*until > self.now).then_some(*mtu)
    }

    /// Lets a new connection know what was learnt about its path.
    pub(super) fn tell_path_mtu(&self, host: HostId, remote: IpAddr, connection: &mut Connection) {
        if let Some(mtu) = self.path_mtu(host, remote) {
            connection.on_path_mss(self.now, mtu - header_bytes(remote));
        }
    }
}

fn path_mtu_min(address: IpAddr) -> u16 {
    if address.is_ipv4() { PATH_MTU_MIN } else { PATH_MTU6_MIN }
}
