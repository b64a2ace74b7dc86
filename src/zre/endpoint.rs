//! ZeroMQ endpoints as ZRE uses them: `tcp://host:port`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// Where a peer can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A numeric address (IPv6 without brackets, a link-local one with `%` and the number of the interface) or a host
    /// name.
    pub host: String,
    /// The TCP port, never 0.
    pub port: u16,
}

/// Why a text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Other transports (`inproc`, `ipc`) have no meaning between machines.
    #[error("an endpoint starts with tcp://")]
    Transport,
    /// Nothing before the port, or characters that no host has.
    #[error("the endpoint names no host")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("an endpoint ends with a port from 1 to 65535")]
    Port,
}

impl Endpoint {
    /// The socket address, when the host is numeric.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let Some((address, scope)) = self.host.split_once('%') else {
            return self.host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, self.port));
        };
        let (address, scope) = (address.parse::<Ipv6Addr>().ok()?, scope.parse::<u32>().ok()?);
        Some(SocketAddrV6::new(address, self.port, 0, scope).into())
    }

    /// What a peer at `remote` means by it: a link-local address is told without its scope, which is ours to add.
    pub(super) fn seen_from(self, remote: SocketAddr) -> Self {
        match (self.socket_addr(), remote) {
            (Some(SocketAddr::V6(own)), SocketAddr::V6(remote))
                if own.ip().is_unicast_link_local() && own.scope_id() == 0 && remote.scope_id() != 0 =>
            {
                let scoped = SocketAddrV6::new(*own.ip(), own.port(), 0, remote.scope_id());
                SocketAddr::from(scoped).into()
            }
            _ => self,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 && v6.ip().is_unicast_link_local() => {
                format!("{}%{}", v6.ip(), v6.scope_id())
            }
            _ => address.ip().to_string(),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// The port is what follows the last colon: czmq writes IPv6 hosts without brackets as well as with them.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let rest = text.strip_prefix("tcp://").ok_or(EndpointError::Transport)?;
        let (host, port) = rest.rsplit_once(':').ok_or(EndpointError::Port)?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if is_number { port.parse().ok() } else { None };
        let port = port.filter(|port| *port != 0).ok_or(EndpointError::Port)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(is_sane) {
            return Err(EndpointError::Host);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "tcp://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "tcp://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_real_peers_are_read_and_written_alike() {
        for text in ["tcp://10.77.0.1:49152", "tcp://robot-3.lab:5000", "tcp://[fe80::1]:49152"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        let bare: Endpoint = "tcp://fe80::1:49152".parse().unwrap();
        assert_eq!((bare.host.as_str(), bare.port), ("fe80::1", 49152));
    }

    #[test]
    fn a_link_local_endpoint_gets_the_scope_of_the_link_that_it_came_over() {
        let remote: SocketAddr = SocketAddrV6::new("fe80::9".parse().unwrap(), 33333, 0, 4).into();
        let said: Endpoint = "tcp://[fe80::9]:49152".parse().unwrap();
        let seen = said.seen_from(remote);
        assert_eq!(seen.host, "fe80::9%4");
        assert_eq!(
            seen.socket_addr(),
            Some(SocketAddrV6::new("fe80::9".parse().unwrap(), 49152, 0, 4).into())
        );
        assert_eq!(Endpoint::from(seen.socket_addr().unwrap()), seen);
        let global: Endpoint = "tcp://[2001:db8::9]:49152".parse().unwrap();
        assert_eq!(global.clone().seen_from(remote), global);
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", EndpointError::Transport),
            ("garbage", EndpointError::Transport),
            ("inproc://x:1", EndpointError::Transport),
            ("tcp://host", EndpointError::Port),
            ("tcp://host:", EndpointError::Port),
            ("tcp://host:0", EndpointError::Port),
            ("tcp://host:+1", EndpointError::Port),
            ("tcp://host:65536", EndpointError::Port),
            ("tcp://:1", EndpointError::Host),
            ("tcp://*:1", EndpointError::Host),
            ("tcp://a b:1", EndpointError::Host),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(reason), "{text:?}");
        }
    }
}
