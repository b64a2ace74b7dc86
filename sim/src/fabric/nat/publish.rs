//! Forwarded ports for those on this side of the NAT: the router itself, and machines on its bridges.
//!
//! Docker publishes a port at every address of its host. Who is outside comes to it through [`Nat::inbound`]; everybody else
//! through here, by whichever of the router's addresses they name. Both ends can be translated: an inside end that would
//! answer by another way has to see the router.
//!
//! Who may do this, and who is shown whose address, is the fabric's business (`published`).

use std::net::{IpAddr, SocketAddr};

use hailer::Timestamp;

use super::table::{Ends, Origin};
use super::{Flow, Nat, Protocol, Refusal, Signal};

impl Nat {
    /// Who gets what comes to a port of the router, whatever the address.
    pub fn published_to(&self, protocol: Protocol, port: u16) -> Option<SocketAddr> {
        let outside = SocketAddr::new(*self.outside.first()?, port);
        self.forwards.get(&(protocol, outside)).copied()
    }

    /// A packet to a published port, or another to one of the router's own addresses: as what it goes on to the end `inside`.
    /// `shown` is the address that this sees instead of the sender's. `None` when the packet belongs to no connection and
    /// opens none.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn publish(
        &mut self,
        now: Timestamp,
        flow: &Flow,
        signal: &Signal,
        inside: SocketAddr,
        shown: Option<IpAddr>,
    ) -> Result<Option<Flow>, Refusal> {
        self.expire(now);
        let Flow { protocol, from, to } = *flow;
        if let Some(key) = self.table.find_outside((protocol, to, from)) {
            let Ends { inside, shown, .. } = self.table.get(key).ends;
            self.track(now, key, false, signal)?;
            return Ok(Some(Flow { from: shown, to: inside, ..*flow }));
        }
        if self.check_first(protocol, signal, Refusal::Invalid).is_err() {
            return Ok(None);
        }
        let is_free = |shown: &SocketAddr| self.table.find_inside((protocol, inside, *shown)).is_none();
        let shown = match shown {
            None => Some(from).filter(is_free),
            Some(address) => {
                let ports = (from.port()..=u16::MAX).chain(1024..from.port().max(1024));
                ports.map(|port| SocketAddr::new(address, port)).find(is_free)
            }
        };
        let shown = shown.ok_or(Refusal::Taken)?;
        let ends = Ends { protocol, inside, outside: to, remote: from, shown };
        self.open(now, Origin::Forwarded, ends, signal)?;
        Ok(Some(Flow { from: shown, to: inside, ..*flow }))
    }

    /// The answer to such a packet, from the inside end to what it was shown: as what it goes back. `None` for what answers
    /// nothing of the kind.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn answer(&mut self, now: Timestamp, flow: &Flow, signal: &Signal) -> Result<Option<Flow>, Refusal> {
        let Some(answer) = self.reversed(now, flow) else { return Ok(None) };
        if let Some(key) = self.table.find_inside((flow.protocol, flow.from, flow.to)) {
            self.track(now, key, true, signal)?;
        }
        Ok(Some(answer))
    }

    /// A packet to an inside end, as an error quotes it: as its sender has sent it.
    pub fn as_published(&mut self, now: Timestamp, quoted: &Flow) -> Option<Flow> {
        let Flow { from, to, .. } =
            self.reversed(now, &Flow { from: quoted.to, to: quoted.from, ..*quoted })?;
        Some(Flow { from: to, to: from, ..*quoted })
    }

    fn reversed(&mut self, now: Timestamp, flow: &Flow) -> Option<Flow> {
        self.expire(now);
        let key = self.table.find_inside((flow.protocol, flow.from, flow.to))?;
        let session = self.table.get(key);
        let Ends { outside, remote, .. } = session.ends;
        (session.origin == Origin::Forwarded).then_some(Flow { from: outside, to: remote, ..*flow })
    }
}
