//! Which NAT one is behind, told from inside: the tests of RFC 5780, and two more that tell the presets apart.
//!
//! Knows addresses and answers and nothing of NATs' insides: it is the check on what the rest of this module does. Who asks
//! needs a server with two addresses and two ports on each (RFC 5780, 3.1) and two sockets inside; how the questions
//! travel is not its business.
//!
//! 1. The first socket asks the server's main end, then the main port of the other address, then the other port of the
//!    other address: the three ends it is seen as are [`Observations::seen`] (RFC 5780, 4.3).
//! 2. The second socket asks the main end only, and to be answered by the other end, then by the main address from its other
//!    port (RFC 5780, 4.4). Thereafter it asks that other end itself, which has knocked by then.
//! 3. Each socket sends to the end that the other one is seen as (RFC 5780, 4.5); both do, so that filtering does not
//!    matter.
//! 4. Both sockets having been answered some seconds after their first question, they are silent for [`IDLE`], and the main
//!    end sends to one of them (RFC 5780, 4.6).

use std::net::SocketAddr;
use std::time::Duration;

use super::{Dependence, Preset};

/// How long the sockets are silent in the last test: longer than Linux remembers UDP, not as long as the patient do.
pub const IDLE: Duration = Duration::from_secs(200);
/// How long after the first question the last one before the silence is answered, at least: long enough for a stream.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// What was seen from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observations {
    /// The ports that the two sockets are bound to.
    pub ports: [u16; 2],
    /// The first socket, as the main end, the other address's main port and the other address's other port see it.
    pub seen: [SocketAddr; 3],
    /// Whether the second socket heard the other address, which it had not sent to.
    pub hears_other_address: bool,
    /// Whether the second socket heard the other port of the main address, which it had not sent to.
    pub hears_other_port: bool,
    /// The second socket as the main end sees it, and as the other address's other port sees it after that had sent to
    /// it.
    pub knocked: [SocketAddr; 2],
    /// Whether the sockets reached each other by the ends that they are seen as.
    pub is_hairpinned: bool,
    /// Whether the main end still reached a socket that was silent for [`IDLE`].
    pub is_kept: bool,
}

impl Observations {
    /// What an outside end depends on.
    pub fn mapping(&self) -> Dependence {
        let [main, other_address, other_port] = self.seen;
        if main == other_address && main == other_port {
            Dependence::EndpointIndependent
        } else if other_address == other_port {
            Dependence::AddressDependent
        } else {
            Dependence::AddressAndPortDependent
        }
    }

    /// What the permission to come in depends on.
    pub fn filtering(&self) -> Dependence {
        if self.hears_other_address {
            Dependence::EndpointIndependent
        } else if self.hears_other_port {
            Dependence::AddressDependent
        } else {
            Dependence::AddressAndPortDependent
        }
    }

    /// Whether sockets keep their ports.
    pub fn is_port_preserved(&self) -> bool {
        self.ports == [self.seen[0].port(), self.knocked[0].port()]
    }

    /// Whether a packet from outside that was not let in changes how its sender sees the socket.
    pub fn is_clashing(&self) -> bool {
        self.mapping() == Dependence::EndpointIndependent && self.knocked[0] != self.knocked[1]
    }

    /// The preset that behaves like this.
    pub fn preset(&self) -> Option<Preset> {
        use Dependence::{
            AddressAndPortDependent as AddressAndPort, AddressDependent as Address,
            EndpointIndependent as Independent,
        };
        let keeps_ports = self.is_port_preserved();
        Some(match (self.mapping(), self.filtering(), self.is_hairpinned) {
            (Independent, Independent, true) if keeps_ports => Preset::FullCone,
            (Independent, Independent, true) => Preset::Cgn,
            (Independent, Address, true) if keeps_ports => Preset::AddrRestricted,
            (Independent, AddressAndPort, true) if keeps_ports => Preset::PortRestricted,
            (Independent, AddressAndPort, false) if keeps_ports && self.is_clashing() => Preset::Linux,
            (Independent, AddressAndPort, false) if keeps_ports => Preset::LinuxDrop,
            (AddressAndPort, AddressAndPort, false) if self.is_kept => Preset::Cloud,
            (AddressAndPort, AddressAndPort, false) => Preset::Symmetric,
            _ => return None,
        })
    }
}
