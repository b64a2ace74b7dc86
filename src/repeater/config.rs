//! How a repeater behaves: complete values, nothing left to decide.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::tls::TlsFiles;
use crate::zre::Endpoint;

/// The settings of a repeater. [`Config::default`] does on one LAN what the original does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interfaces whose LANs are served, each by name, index or address. Without any, the one a node would use.
    pub interfaces: Vec<String>,
    /// UDP port of beacons.
    pub port: u16,
    /// TCP port at which other repeaters get what is heard here.
    pub publish_port: u16,
    /// What is told as the address of the nodes here, where they are reached at another than their own: behind a NAT.
    pub advertise: Option<IpAddr>,
    /// Multicast groups that are listened and repeated to, besides broadcast.
    pub multicast: Vec<Ipv4Addr>,
    /// What is told on the LANs of the nodes elsewhere.
    pub announce: Announce,
    /// The ports of stand-ins. Nodes must not use them: beacons with such a port are never repeated.
    pub stand_in_ports: RangeInclusive<u16>,
    /// Carry the connections to nodes elsewhere through their repeater, for networks without a route to each other.
    pub relay: bool,
    /// Connections that are carried at a time, at most.
    pub connections_max: usize,
    /// Which nodes here others are told of.
    pub publish: Filter,
    /// Which nodes elsewhere are told of here.
    pub accept: Filter,
    /// Repeaters that are never connected to: the original's `DONT_IP`.
    pub dont_ip: Vec<IpAddr>,
    /// Where other repeaters are found.
    pub registries: Vec<Registry>,
}

impl Config {
    /// TCP port of repeaters.
    pub const PUBLISH_PORT: u16 = 2340;
    /// Below the ports that any ZRE program chooses by itself, and that Linux gives to connections.
    pub const STAND_IN_PORTS: RangeInclusive<u16> = 23400..=24423;
    /// A carried connection costs two sockets and up to 128 KiB here, and as much at the other repeater.
    pub const CONNECTIONS_MAX: usize = 256;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            port: crate::zre::Config::PORT,
            publish_port: Self::PUBLISH_PORT,
            advertise: None,
            multicast: Vec::new(),
            announce: Announce::Origin,
            stand_in_ports: Self::STAND_IN_PORTS,
            relay: false,
            connections_max: Self::CONNECTIONS_MAX,
            publish: Filter::default(),
            accept: Filter::default(),
            dont_ip: Vec::new(),
            registries: Vec::new(),
        }
    }
}

/// What is told on a LAN of the nodes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// Beacons with their origin's address behind them: the original's way. Hailer's nodes and patched pyre understand
    /// it, zyre ignores it, gyre and the Haskell tools look for the node at the repeater, and stock pyre ends.
    Origin,
    /// Plain beacons, each with a port of the repeater that leads to the node. Every implementation understands them.
    StandIn,
}

/// Which addresses are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These alone; without any, all.
    pub allow: Vec<IpNet>,
    /// None of these.
    pub deny: Vec<IpNet>,
}

impl Filter {
    /// Whether the address is meant.
    pub fn takes(&self, address: IpAddr) -> bool {
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        (self.allow.is_empty() || is_in(&self.allow)) && !is_in(&self.deny)
    }
}

/// Where other repeaters are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registry {
    /// They are written down: host names or addresses.
    Static(Vec<Place>),
    /// A name has an address for each of them. In a Docker swarm `tasks.SERVICE` is such a name.
    Dns {
        /// The name, and the port of all of them.
        name: Place,
        /// Time between two questions.
        interval: Duration,
    },
    /// A service's name has a host and a port for each of them: SRV records.
    Services {
        /// The name: `_hailer-repeater._tcp.example`.
        name: String,
        /// Time between two questions.
        interval: Duration,
    },
    /// Hubs of gossip, to which they tell where they are.
    Gossip(Vec<Endpoint>),
    /// Consul knows them.
    Consul(Consul),
    /// They tell each other by multicast.
    Multicast {
        /// The group.
        group: Ipv4Addr,
        /// UDP port.
        port: u16,
        /// How many routers may be between them, and one.
        ttl: u8,
    },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Place {
    /// Reads `HOST`, `HOST:PORT`, `IPV6` or `[IPV6]:PORT`. Without a port it is `port`.
    pub fn parse(text: &str, port: u16) -> Option<Self> {
        let is_six = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
        let (host, port) = match text.rsplit_once(':') {
            _ if is_six(text) || text.ends_with(']') => (text, port),
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (text, port),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).filter(|host| is_six(host));
        let is_sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host = match bare {
            Some(bare) => bare,
            None if is_six(host) || (!host.is_empty() && host.chars().all(is_sane)) => host,
            None => return None,
        };
        (host.len() <= 255).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How Consul is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Consul {
    /// Its HTTP API.
    pub server: Place,
    /// How it is known by its certificate; without that it is asked in the clear.
    pub tls: Option<Box<Tls>>,
    /// The token of its access control.
    pub token: Option<String>,
    /// The datacenter that is asked, instead of the agent's own.
    pub datacenter: Option<String>,
    /// The service that repeaters register as and are found by; without one the catalogue is left alone.
    pub service: Option<String>,
    /// The address that is registered; without one it is that of the first interface, or [`Config::advertise`].
    pub address: Option<IpAddr>,
    /// A registration that was not renewed for so long is void.
    pub ttl: Duration,
    /// The folder of keys that has the addresses of Docker's nodes, as the original reads it: `docker/nodes`.
    pub keys: Option<String>,
}

/// How a server is known by its certificate, and we by ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that its certificate is signed by, in PEM.
    pub authority: PathBuf,
    /// The name that the certificate is for; the server's own when there is none.
    pub name: Option<String>,
    /// What we show, where the server asks for it.
    pub certificate: Option<TlsFiles>,
}

impl Consul {
    /// The port of its HTTPS API.
    pub const TLS_PORT: u16 = 8501;
    /// The port of Consul's HTTP API.
    pub const PORT: u16 = 8500;
    /// What the original reads.
    pub const KEYS: &str = "docker/nodes";
    /// What repeaters register as by default.
    pub const SERVICE: &str = "hailer-repeater";
    /// How long a registration holds by default.
    pub const TTL: Duration = Duration::from_secs(15);
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul")
            .field("server", &self.server)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("datacenter", &self.datacenter)
            .field("service", &self.service)
            .field("address", &self.address)
            .field("ttl", &self.ttl)
            .field("keys", &self.keys)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_hosts_with_or_without_a_port() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", 2340),
            ("10.0.0.1:7", "10.0.0.1", 7),
            ("site-b.example:2341", "site-b.example", 2341),
            ("tasks.repeater", "tasks.repeater", 2340),
            ("fd00::1", "fd00::1", 2340),
            ("[fd00::1]:7", "fd00::1", 7),
            ("[fd00::1]", "fd00::1", 2340),
        ] {
            let place = Place { host: host.into(), port };
            assert_eq!(Place::parse(text, 2340), Some(place.clone()), "{text}");
            assert_eq!(Place::parse(&place.to_string(), 1), Some(place));
        }
        for text in ["", ":1", "a:0", "a:65536", "a:b", "a b", "http://a", "[a]:1", "é"] {
            assert_eq!(Place::parse(text, 2340), None, "{text}");
        }
    }

    #[test]
    fn a_filter_takes_what_is_allowed_and_not_denied() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let filter = Filter { allow: nets(&["10.0.0.0/8"]), deny: nets(&["10.9.0.0/16", "fd00::/8"]) };
        let takes = |text: &str| filter.takes(text.parse().unwrap());
        assert!(takes("10.1.2.3"));
        assert!(!takes("10.9.2.3") && !takes("192.168.0.1") && !takes("fd00::1"));
        assert!(Filter::default().takes("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn a_token_is_not_shown() {
        let consul = Consul {
            server: Place::parse("localhost", Consul::PORT).unwrap(),
            tls: None,
            token: Some("secret".into()),
            datacenter: None,
            service: None,
            address: None,
            ttl: Consul::TTL,
            keys: None,
        };
        assert!(!format!("{consul:?}").contains("secret"));
    }
}
