//! ICMP: what machines tell a sender about a packet of its that went no further, and what its sockets make of that.
//!
//! Only errors: the fabric has no echo, no redirects and no router discovery. An error carries the packet it is about, as
//! a structured value; on a real wire that is its header and as much of the rest as fits.

use std::net::IpAddr;
use std::time::Duration;

use hailer::Timestamp;

use super::packet::{Body, Packet};
use super::six::{scope_of, scoped};
use super::tcp::Unreachable;
use super::{Fabric, HostId};

/// An ICMP error.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// What happened.
    pub problem: Problem,
    /// To which packet, as it was when it happened.
    pub about: Packet,
}

/// What ICMP says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A router has no way to the network.
    NetworkUnreachable,
    /// The host does not answer on its own segment.
    HostUnreachable,
    /// The host has no socket at the port.
    PortUnreachable,
    /// A firewall lets nothing through.
    Prohibited,
    /// The packet passed as many routers as it may.
    TimeExceeded,
    /// The packet must not be cut, and is longer than the next link takes.
    TooLong {
        /// The longest packet that the link takes.
        mtu: u16,
    },
}

/// An error over IPv4 is no longer than this (RFC 1812, 4.3.2.3), one over IPv6 than that (RFC 4443, 2.4).
const ICMP_BYTES_MAX: usize = 576;
const ICMP6_BYTES_MAX: usize = 1280;
/// Bytes of the header of an ICMP error.
const ICMP_HEADER_BYTES: usize = 8;
/// Bytes of the IP header before it.
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;

/// One error a second to each address, and so many at once (`icmp_ratelimit`).
const RATE_PERIOD: Duration = Duration::from_secs(1);
const BURST: u32 = 6;
/// Addresses whose budgets are kept; beyond that those are forgotten that are full again.
const BUDGETS_MAX: usize = 1024;

/// How many errors a machine may send to an address now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    saved: Duration,
    at: Timestamp,
}

impl Budget {
    const FULL: Duration = RATE_PERIOD.saturating_mul(BURST);

    fn at(self, now: Timestamp) -> Self {
        Self { saved: (self.saved + now.since(self.at)).min(Self::FULL), at: now }
    }
}

impl Icmp {
    /// Bytes on the wire after the IP header.
    pub fn wire_len(&self) -> usize {
        ICMP_HEADER_BYTES + self.quoted_len()
    }

    /// How many bytes of the packet that it is about it carries.
    pub fn quoted_len(&self) -> usize {
        let (whole, ip) = if self.about.to.is_ipv4() {
            (ICMP_BYTES_MAX, IPV4_HEADER_BYTES)
        } else {
            (ICMP6_BYTES_MAX, IPV6_HEADER_BYTES)
        };
        self.about.wire_len().min(whole - ip - ICMP_HEADER_BYTES)
    }
}

impl Fabric {
    /// A packet goes no further at a machine, which tells its sender so unless it had better not: nobody is told about
    /// an error, or about what went to many (RFC 1122, 3.2.2).
    pub(super) fn complain(&mut self, host: HostId, problem: Problem, about: Packet) {
        let about = self.as_it_was_sent(host, about);
        let (to, lost) = (about.from.ip(), about.to.ip());
        let was_for_many = about.is_multicast() || about.is_limited_broadcast();
        if matches!(about.body, Body::Icmp(_)) || was_for_many || self.is_broadcast_for(host, lost) {
            return;
        }
        if to.is_multicast() || to.is_unspecified() || self.is_broadcast_for(host, to) {
            return;
        }
        let is_own = self.is_own_address(host, to);
        // Nothing holds back path MTU discovery.
        let is_limited = !is_own && !matches!(problem, Problem::TooLong { .. });
        if is_limited && !self.may_complain(host, to) {
            return;
        }
        let to = scoped(to, 0, scope_of(about.from));
        let Ok(from) = self.source_for(host, to, None) else { return };
        let from = scoped(from, 0, scope_of(to));
        let packet = Packet::new(from, to, Body::Icmp(Box::new(Icmp { problem, about })));
        // Without a way back nobody hears of it.
        let _ = self.transmit(host, packet, None);
    }

    fn may_complain(&mut self, host: HostId, to: IpAddr) -> bool {
        let now = self.now;
        let budgets = &mut self.hosts[host.index()].icmp_budgets;
        if budgets.len() >= BUDGETS_MAX {
            budgets.retain(|_, budget| budget.at(now).saved < Budget::FULL);
        }
        let budget = budgets.entry(to).or_insert(Budget { saved: Budget::FULL, at: now });
        *budget = budget.at(now);
        match budget.saved.checked_sub(RATE_PERIOD) {
            Some(rest) => budget.saved = rest,
            None => return false,
        }
        true
    }

    /// An error has come to the machine that had sent the packet, or so it says. UDP sockets here are never connected,
    /// so they hear nothing of it, as on Linux.
    pub(super) fn deliver_icmp(&mut self, host: HostId, Icmp { problem, about }: Icmp) {
        if let (Problem::TooLong { mtu }, Body::Udp(_)) = (problem, &about.body) {
            return self.believe_path_mtu(host, about.to.ip(), mtu);
        }
        let Body::Tcp(segment) = &about.body else { return };
        match problem {
            Problem::TooLong { mtu } => self.path_mtu_is(host, about.from, about.to, segment.seq, mtu),
            Problem::NetworkUnreachable => {
                self.tcp_unreachable(host, about.from, about.to, segment.seq, Unreachable::Network);
            }
            // A connection that can't be made for too many routers is one to a host that can't be reached.
            Problem::HostUnreachable | Problem::TimeExceeded => {
                self.tcp_unreachable(host, about.from, about.to, segment.seq, Unreachable::Host);
            }
            Problem::PortUnreachable => {
                self.tcp_unreachable(host, about.from, about.to, segment.seq, Unreachable::Port);
            }
            Problem::Prohibited => {
                self.tcp_unreachable(host, about.from, about.to, segment.seq, Unreachable::Prohibited);
            }
        }
    }
}
