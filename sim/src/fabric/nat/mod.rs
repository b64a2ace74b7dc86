//! Network address translation, as a machine: which packet goes through, and with which addresses.
//!
//! Pure: no fabric, no clock, no events. The fabric asks at each packet that crosses from inside to outside or back, and
//! moves the packet itself. What the machine remembers is forgotten when it is asked next, so an idle NAT costs nothing.
//!
//! * `flow`: what it is asked, and what it answers.
//! * `policy`, `presets`: how a NAT behaves, on the axes of RFC 4787, and the NATs that have names.
//! * `table`: the sessions, found from both sides, and when they end.
//! * `ports`: which outside port a mapping gets.
//! * `publish`: forwarded ports as the router itself and its bridges reach them.
//! * `tcp_state`: what it takes a TCP connection to be.
//! * [`classify`]: from inside, which of the presets one is behind.
//!
//! A mapping is not an object of its own: it is what the sessions of one inside end have in common. Linux works that way, and
//! RFC 4787's classes are rules about which outside end a further session gets and who else may use it.
//!
//! Not done: RFC 5382's late answer to an unsolicited SYN (it is dropped, or the router answers at once), the check of TCP
//! windows, helpers that rewrite payloads.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use hailer::Timestamp;

use super::random;
use super::random::Stream;
pub use flow::{Flow, Inbound, Protocol, Refusal, Signal};
pub use policy::{
    Dependence, Hairpin, MidConnection, Policy, PortPolicy, Refresh, TcpTimeouts, Timeouts, Unsolicited,
};
use ports::{Ports, Want};
pub use presets::Preset;
use table::{Ends, NewSession, Origin, SessionKey, Table};
pub use tcp_state::TcpSignal;
use tcp_state::{TcpTrack, TcpTurn};

pub mod classify;
mod flow;
mod policy;
mod ports;
mod presets;
mod publish;
mod table;
mod tcp_state;
#[cfg(test)]
mod tests;

/// A NAT.
#[derive(Debug)]
pub struct Nat {
    policy: Policy,
    outside: Vec<IpAddr>,
    table: Table,
    ports: Ports,
    forwards: BTreeMap<(Protocol, SocketAddr), SocketAddr>,
}

impl Nat {
    /// A NAT with these outside addresses, the first of which is what machines inside are translated to; a block of ports
    /// may lie on any of them. Draws from `stream`, which nobody else does.
    pub fn new(policy: Policy, outside: Vec<IpAddr>, stream: Stream) -> Self {
        let ports = Ports::new(policy.ports, outside.clone(), stream);
        Self { policy, outside, table: Table::default(), ports, forwards: BTreeMap::new() }
    }

    /// How it behaves.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether an address is one of its outside addresses.
    pub fn is_outside(&self, address: IpAddr) -> bool {
        self.outside.contains(&address)
    }

    /// Sessions at `now`.
    pub fn len(&mut self, now: Timestamp) -> usize {
        self.expire(now);
        self.table.len()
    }

    /// Forwards what comes to a port to an inside end. `outside` is one of the outside addresses, or unspecified for all.
    pub fn forward_port(&mut self, protocol: Protocol, outside: SocketAddr, to: SocketAddr) {
        for address in &self.outside {
            if outside.ip().is_unspecified() || outside.ip() == *address {
                self.forwards.insert((protocol, SocketAddr::new(*address, outside.port())), to);
            }
        }
    }

    /// Forwards a port no more. What has come in by it goes on.
    pub fn withdraw_port(&mut self, protocol: Protocol, port: u16) {
        self.forwards.retain(|(of, outside), _| *of != protocol || outside.port() != port);
    }

    /// Forgets all sessions. What is configured stays: forwarded ports.
    pub fn reboot(&mut self) {
        self.table = Table::default();
        self.ports.reboot();
    }

    /// The source that a packet from inside leaves with. The router's own packets are translated too: they come from
    /// one of its outside addresses, which is what most of them keep.
    ///
    /// # Errors
    /// Why it does not leave.
    pub fn outbound(&mut self, now: Timestamp, flow: &Flow, signal: &Signal) -> Result<SocketAddr, Refusal> {
        self.expire(now);
        let Flow { protocol, from, to } = *flow;
        if let Some(key) = self.table.find_inside((protocol, from, to)) {
            let outside = self.table.get(key).ends.outside;
            self.track(now, key, true, signal)?;
            return Ok(outside);
        }
        match self.check_first(protocol, signal, Refusal::Forgotten) {
            // The router's answer to something that it does not keep in mind, such as a reset.
            Err(_) if self.is_outside(from.ip()) => return Ok(from),
            checked => checked?,
        }
        let outside = self.outside_for(now, flow)?;
        let ends = Ends { protocol, inside: from, outside, remote: to, shown: to };
        self.open(now, Origin::Inside, ends, signal)?;
        Ok(outside)
    }

    /// What becomes of a packet that has come to an outside address.
    pub fn inbound(&mut self, now: Timestamp, flow: &Flow, signal: &Signal) -> Inbound {
        self.expire(now);
        self.let_in(now, flow, signal).unwrap_or_else(Inbound::Drop)
    }

    /// A packet from inside to an outside address of this NAT, both ends translated.
    ///
    /// # Errors
    /// Why it does not get there. After [`Refusal::NoHairpin`] the router takes it as its own.
    pub fn hairpin(&mut self, now: Timestamp, flow: &Flow, signal: &Signal) -> Result<Flow, Refusal> {
        if self.policy.hairpin == Hairpin::Never {
            return Err(Refusal::NoHairpin);
        }
        let from = self.outbound(now, flow, signal)?;
        match self.inbound(now, &Flow { from, ..*flow }, signal) {
            Inbound::Forward(to) => Ok(Flow { from, to, ..*flow }),
            Inbound::Local => Err(Refusal::Unmapped),
            Inbound::Drop(refusal) => Err(refusal),
        }
    }

    /// An ICMP error from outside about a packet that went out: the packet it quotes, with the inside end as its source,
    /// to whom the error goes. `None` for a packet that never left here. Sessions live neither longer nor shorter for it
    /// (RFC 5508, REQ-7).
    pub fn inbound_error(&mut self, now: Timestamp, quoted: &Flow) -> Option<Flow> {
        self.expire(now);
        let Flow { protocol, from, to } = *quoted;
        let key = self.table.find_outside((protocol, from, to));
        // Where filtering is not that strict, an answer to a stranger needs no session.
        let session = match key {
            Some(key) => self.table.get(key),
            None => self.owner(protocol, from, to)?,
        };
        Some(Flow { from: session.ends.inside, ..*quoted })
    }

    /// An ICMP error from inside about a packet that came in: the packet it quotes, with the outside end as its
    /// destination, from where the error comes for those outside. `None` for a packet that never came in here.
    pub fn outbound_error(&mut self, now: Timestamp, quoted: &Flow) -> Option<Flow> {
        self.expire(now);
        let Flow { protocol, from, to } = *quoted;
        let exact = self.table.find_inside((protocol, to, from)).map(|key| self.table.get(key).ends.outside);
        let to = exact.or_else(|| {
            let sessions = self.table.of_inside(protocol, to, None);
            let mut outsides = sessions.map(|session| session.ends.outside);
            outsides.find(|outside| self.owner(protocol, *outside, from).is_some())
        })?;
        Some(Flow { to, ..*quoted })
    }

    fn let_in(&mut self, now: Timestamp, flow: &Flow, signal: &Signal) -> Result<Inbound, Refusal> {
        let Flow { protocol, from, to } = *flow;
        let ends = |inside| Ends { protocol, inside, outside: to, remote: from, shown: from };
        if let Some(key) = self.table.find_outside((protocol, to, from)) {
            let session = self.table.get(key);
            let (inside, is_router) = (session.ends.inside, session.origin == Origin::Router);
            self.track(now, key, false, signal)?;
            return Ok(if is_router { Inbound::Local } else { Inbound::Forward(inside) });
        }
        if let Some(inside) = self.forwards.get(&(protocol, to)).copied() {
            self.check_first(protocol, signal, Refusal::Invalid)?;
            if self.table.find_inside((protocol, inside, from)).is_some() {
                return Err(Refusal::Taken);
            }
            self.open(now, Origin::Forwarded, ends(inside), signal)?;
            return Ok(Inbound::Forward(inside));
        }
        if let Some(inside) = self.owner(protocol, to, from).map(|session| session.ends.inside) {
            let is_first = self.check_first(protocol, signal, Refusal::Invalid);
            if is_first.is_ok() {
                // By whom nobody outside can keep open, nothing needs to be remembered of UDP either.
                let is_remembered = protocol == Protocol::Tcp || self.policy.refresh == Refresh::Both;
                if is_remembered && self.table.find_inside((protocol, inside, from)).is_none() {
                    self.open(now, Origin::Outside, ends(inside), signal)?;
                }
                return Ok(Inbound::Forward(inside));
            }
        }
        if self.policy.unsolicited == Unsolicited::Accept {
            let is_new = self.table.find_inside((protocol, to, from)).is_none();
            if is_new && self.check_first(protocol, signal, Refusal::Invalid).is_ok() {
                self.open(now, Origin::Router, ends(to), signal)?;
            }
            return Ok(Inbound::Local);
        }
        Err(if self.table.is_used(protocol, to) { Refusal::Filtered } else { Refusal::Unmapped })
    }

    /// A session of the inside end to which `remote` may send by way of `outside` although the two do not know each
    /// other.
    fn owner(&self, protocol: Protocol, outside: SocketAddr, remote: SocketAddr) -> Option<&table::Session> {
        let whom = match self.policy.filtering {
            Dependence::EndpointIndependent => None,
            Dependence::AddressDependent => Some(remote.ip()),
            Dependence::AddressAndPortDependent => return None,
        };
        let is_mapping =
            |session: &&table::Session| matches!(session.origin, Origin::Inside | Origin::Outside);
        self.table.of_outside(protocol, outside, whom).find(is_mapping)
    }

    /// Whether a session may begin with this packet.
    fn check_first(&self, protocol: Protocol, signal: &Signal, if_late: Refusal) -> Result<(), Refusal> {
        match (protocol, signal) {
            (Protocol::Udp | Protocol::Icmp, Signal::Datagram) => Ok(()),
            (Protocol::Tcp, Signal::Segment(tcp)) if tcp.opens() => Ok(()),
            (Protocol::Tcp, Signal::Segment(tcp)) if self.policy.mid_connection == MidConnection::PickUp => {
                if tcp.continues() {
                    Ok(())
                } else {
                    Err(Refusal::Invalid)
                }
            }
            (Protocol::Tcp, Signal::Segment(tcp)) if !tcp.rst => Err(if_late),
            _ => Err(Refusal::Invalid),
        }
    }

    /// The outside end of a session that is to be.
    fn outside_for(&mut self, now: Timestamp, flow: &Flow) -> Result<SocketAddr, Refusal> {
        let Flow { protocol, from: inside, to: remote } = *flow;
        let is_unique =
            |outside: &SocketAddr| self.table.find_outside((protocol, *outside, remote)).is_none();
        if let Some(outside) = self.mapped(protocol, inside, remote).filter(is_unique) {
            return Ok(outside);
        }
        let is_forwarded = |outside| self.forwards.contains_key(&(protocol, outside));
        let table = &self.table;
        self.ports.choose(&Want { now, protocol, inside, remote, table, is_forwarded: &is_forwarded })
    }

    /// The outside end that an inside end has already, as far as the mapping says that it is the same for `remote`.
    fn mapped(&self, protocol: Protocol, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let is_linux = self.policy.ports == PortPolicy::Linux;
        let whom = match self.policy.mapping {
            Dependence::EndpointIndependent if is_linux => {
                return self.table.youngest(protocol, inside).map(|session| session.ends.outside);
            }
            Dependence::EndpointIndependent => {
                let mut forwards = self.forwards.iter();
                let forward = forwards.find(|((of, _), to)| *of == protocol && **to == inside);
                if let Some(((_, outside), _)) = forward {
                    return Some(*outside);
                }
                None
            }
            Dependence::AddressDependent => Some(remote.ip()),
            Dependence::AddressAndPortDependent => return None,
        };
        // Whom a stranger has found by one mapping of several answers by that one, but others still go their own way.
        let is_only = self.policy.mapping == Dependence::EndpointIndependent && !is_linux;
        let mut sessions = self.table.of_inside(protocol, inside, whom);
        let mapping = sessions.find(|session| {
            session.origin == Origin::Inside || (session.origin == Origin::Outside && is_only)
        });
        mapping.map(|session| session.ends.outside)
    }

    fn open(&mut self, now: Timestamp, origin: Origin, ends: Ends, signal: &Signal) -> Result<(), Refusal> {
        while self.table.len() >= self.policy.sessions_max {
            let oldest = self.table.oldest_unassured().ok_or(Refusal::TableFull)?;
            self.forget(oldest, now);
        }
        let timeouts = &self.policy.timeouts;
        let (tcp, life) = match signal {
            Signal::Datagram if ends.protocol == Protocol::Icmp => (None, timeouts.icmp),
            Signal::Datagram => (None, timeouts.udp_unreplied),
            Signal::Segment(segment) => {
                let (track, life) = TcpTrack::new(segment, &timeouts.tcp);
                (Some(Box::new(track)), life)
            }
        };
        self.table.insert(now, NewSession { ends, origin, tcp, life });
        Ok(())
    }

    /// A further packet of a session.
    fn track(
        &mut self,
        now: Timestamp,
        key: SessionKey,
        is_from_inside: bool,
        signal: &Signal,
    ) -> Result<(), Refusal> {
        let timeouts = self.policy.timeouts;
        let session = self.table.get_mut(key);
        let is_from_opener = is_from_inside == (session.origin == Origin::Inside);
        match (signal, &mut session.tcp) {
            (Signal::Segment(segment), Some(track)) => {
                let turn = track.update(is_from_opener, segment, &timeouts.tcp);
                let is_assured = track.is_assured;
                match turn {
                    TcpTurn::Refresh(life) => {
                        self.table.expire_at(key, now.after(life));
                        self.table.set_assured(key, is_assured);
                    }
                    TcpTurn::Keep => {}
                    TcpTurn::Forget => self.forget(key, now),
                    // What the router takes and sends itself, its own TCP judges.
                    TcpTurn::Invalid if self.is_outside(self.table.get(key).ends.inside.ip()) => {}
                    TcpTurn::Invalid => return Err(Refusal::Invalid),
                }
            }
            (Signal::Datagram, None) => {
                let is_stream = session.is_answered && now.since(session.created) > timeouts.udp_stream_after;
                session.is_answered |= !is_from_opener;
                let life = match session.ends.protocol {
                    Protocol::Icmp => timeouts.icmp,
                    _ if is_stream => timeouts.udp_replied,
                    _ => timeouts.udp_unreplied,
                };
                if is_from_inside || self.policy.refresh == Refresh::Both {
                    self.table.expire_at(key, now.after(life));
                }
                if is_stream {
                    self.table.set_assured(key, true);
                }
            }
            _ => return Err(Refusal::Invalid),
        }
        Ok(())
    }

    fn forget(&mut self, key: SessionKey, now: Timestamp) {
        if let Some(session) = self.table.remove(key) {
            self.give_back(&session.ends, now);
        }
    }

    fn expire(&mut self, now: Timestamp) {
        for (session, at) in self.table.expire(now) {
            self.give_back(&session.ends, at);
        }
    }

    fn give_back(&mut self, ends: &Ends, at: Timestamp) {
        if !self.table.is_used(ends.protocol, ends.outside) {
            self.ports.give_back(ends.protocol, ends.outside, at);
        }
    }
}
