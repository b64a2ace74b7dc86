//! What a relay and a host are told, complete and checked. Reading it from a file is the daemon's business.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::proof::Token;
use super::proxy::ProxyVersion;
pub use crate::tls::TlsFiles;

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where hosts connect to: those of the original protocol and others alike.
    pub hosts: SocketAddr,
    /// Serves the original protocol too, which has no authentication.
    pub compatible: Option<Compatible>,
    /// Named services.
    pub services: BTreeMap<String, Service>,
    /// Lets only hosts with TLS serve named services.
    pub tls: Option<TlsFiles>,
    /// How often a host is asked whether it is there. It is gone when it has been silent for 8/3 of that.
    pub heartbeat: Duration,
    /// How long sessions may go on when the relay is told to stop.
    pub drain: Duration,
}

/// The ports of the original protocol beside that for hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatible {
    /// Where host processes open their command channel.
    pub commands: SocketAddr,
    /// Where clients connect to.
    pub clients: SocketAddr,
    /// Limits of its clients.
    pub limits: Limits,
}

/// A named service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where clients connect to, or send to.
    pub clients: SocketAddr,
    /// What they speak there.
    pub protocol: Protocol,
    /// What its hosts have to know.
    pub token: Token,
    /// Limits of its clients and hosts.
    pub limits: Limits,
}

/// What carries a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams. A session is what one address of a client sends, and what is answered to it.
    Udp,
}

/// Limits of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once, those that wait for a host included.
    pub connections: usize,
    /// Clients that may wait for a host at once.
    pub waiting: usize,
    /// How long a client may wait for a host.
    pub wait: Duration,
    /// New clients in a second, and as many at once after a quiet second.
    pub rate: Option<u32>,
    /// Bits a second of all sessions together, in each direction.
    pub bandwidth: Option<u64>,
    /// Networks that clients may come from; all when there is none.
    pub allow: Vec<IpNet>,
    /// Hosts at once.
    pub hosts: usize,
    /// Free data connections that each host holds ready at least.
    pub pool: usize,
    /// ... and at most, when demand has let the pool grow.
    pub pool_max: usize,
    /// How long a session of a UDP service may be silent until it is over; one that nothing was answered to ends after
    /// 30 s at the latest.
    pub idle: Duration,
}

/// A host: makes local services reachable through a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The relay's name or address, and its port for hosts.
    pub relay: Place,
    /// How to know the relay by its certificate; without it there is no TLS.
    pub tls: Option<Trust>,
    /// Serves by the original protocol.
    pub compatible: Option<CompatibleHost>,
    /// Named services.
    pub services: BTreeMap<String, HostService>,
    /// How long sessions may go on when the host is told to stop.
    pub drain: Duration,
}

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How a host knows its relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificate is signed by one of those in this file (PEM) and is for this name.
    Authority {
        /// The file.
        file: PathBuf,
        /// The name; the relay's own when there is none.
        name: Option<String>,
    },
    /// The certificate's SHA-256 is this, whoever signed it.
    Pinned([u8; 32]),
}

/// A host process of the original protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompatibleHost {
    /// The local service.
    pub to: Place,
    /// The relay's port for command channels.
    pub commands_port: u16,
    /// Free data connections that are held ready.
    pub connections: usize,
    /// Data connections at most, those in a session included.
    pub connections_max: usize,
}

/// What a host makes reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// A port.
    Port(Place),
    /// A UDP port.
    Udp(Place),
    /// The ZRE node that runs in the same program, wherever it listens. It says nothing of its own; see
    /// [`Host::start_beside`](super::Host::start_beside).
    Node,
}

/// One service that a host makes reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostService {
    /// The local service.
    pub to: Local,
    /// What relay and host have in common.
    pub token: Token,
    /// Tells the local service who the client is.
    pub proxy: Option<ProxyVersion>,
    /// How often the local service is looked at; while it takes no connection the relay is told to use other hosts.
    pub check: Option<Duration>,
    /// Data connections at most.
    pub connections_max: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(place) => place.fmt(f),
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Node => f.write_str("zre"),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
        let is_name = !host.is_empty() && host.len() <= 255 && !host.contains([':', '[', ']', ' ', '/']);
        if !is_name {
            return Err("it has no name or address before its port");
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or("its port is none from 1 to 65535")?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Protocol {
    /// Takes the protocol off an address or a place: `udp:0.0.0.0:53` is UDP, `0.0.0.0:22` and `tcp:0.0.0.0:22` are TCP.
    pub fn split(text: &str) -> (Self, &str) {
        match text.strip_prefix("udp:") {
            Some(rest) => (Self::Udp, rest),
            None => (Self::Tcp, text.strip_prefix("tcp:").unwrap_or(text)),
        }
    }
}

impl std::str::FromStr for Local {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, place) = Protocol::split(text);
        place.parse().map(match protocol {
            Protocol::Tcp => Self::Port,
            Protocol::Udp => Self::Udp,
        })
    }
}

/// The port for hosts, as the original has it.
pub const HOSTS_PORT: u16 = 8000;
/// The port for command channels.
pub const COMMANDS_PORT: u16 = 8001;
/// The port for clients.
pub const CLIENTS_PORT: u16 = 8002;

pub(crate) const fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: anywhere(HOSTS_PORT),
            compatible: None,
            services: BTreeMap::new(),
            tls: None,
            heartbeat: Duration::from_secs(15),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Compatible {
    fn default() -> Self {
        Self { commands: anywhere(COMMANDS_PORT), clients: anywhere(CLIENTS_PORT), limits: Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            waiting: 1000,
            wait: Duration::from_secs(10),
            rate: None,
            bandwidth: None,
            allow: Vec::new(),
            hosts: 1000,
            pool: 4,
            pool_max: 64,
            idle: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// Sessions of a UDP service at once, when nothing else is said. Fewer than of a TCP service: each has a connection of
    /// its host, and whoever can write any sender's address into a datagram begins one with each.
    pub const UDP_CONNECTIONS: usize = 1000;

    /// What a service has when nothing else is said.
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::default(),
            Protocol::Udp => Self { connections: Self::UDP_CONNECTIONS, ..Self::default() },
        }
    }
}

impl Trust {
    /// The certificate with this SHA-256, in 64 hexadecimal digits, with colons between them or not.
    pub fn pin(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok();
        let mut hash = [0; 32];
        for (i, to) in hash.iter_mut().enumerate() {
            *to = byte(i)?;
        }
        Some(Self::Pinned(hash))
    }
}

impl CompatibleHost {
    /// A host process with the original's ten data connections.
    pub const fn new(to: Place) -> Self {
        Self { to, commands_port: COMMANDS_PORT, connections: 10, connections_max: 1000 }
    }
}

impl HostService {
    /// Data connections at most, when nothing else is said.
    pub const CONNECTIONS_MAX: usize = 20_000;

    /// A service without a token.
    pub fn new(to: Place) -> Self {
        Self::at(Local::Port(to))
    }

    /// A service without a token, of whatever kind.
    pub fn at(to: Local) -> Self {
        Self { to, token: Token::default(), proxy: None, check: None, connections_max: Self::CONNECTIONS_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_udp_is_udp() {
        let local = |text: &str| text.parse::<Local>();
        let place: Place = "127.0.0.1:53".parse().unwrap();
        assert_eq!(local("udp:127.0.0.1:53"), Ok(Local::Udp(place.clone())));
        assert_eq!(local("tcp:127.0.0.1:53"), Ok(Local::Port(place.clone())));
        assert_eq!(local("127.0.0.1:53"), Ok(Local::Port(place)));
        assert_eq!(local("udp:[::1]:53").unwrap().to_string(), "udp:[::1]:53");
        for wrong in ["udp:53", "udp:", "UDP:a:1:2", "sctp:a:1"] {
            assert!(local(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["example:8000", "10.0.0.1:22", "[2001:db8::1]:22"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for wrong in ["example", "example:0", "example:70000", ":22", "a b:1", "fe80::1:", "http://x:1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
