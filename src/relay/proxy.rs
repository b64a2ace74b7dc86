//! The PROXY protocol: tells a local service who the client is, in front of the session's first byte.
//!
//! Version 1 is a line of text, version 2 is binary (haproxy's `proxy-protocol.txt`, 2.1 and 2.2). Only headers are made
//! here; nobody reads any.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

/// Which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The first bytes of each header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

impl ProxyVersion {
    /// The header for a connection from `client` to `relay`; "unknown" when their families differ.
    pub fn header(self, client: SocketAddr, relay: SocketAddr) -> Bytes {
        let (from, to) = (client.ip().to_canonical(), relay.ip().to_canonical());
        let is_known = from.is_ipv4() == to.is_ipv4();
        match self {
            Self::V1 if !is_known => Bytes::from_static(b"PROXY UNKNOWN\r\n"),
            Self::V1 => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), relay.port()).into()
            }
            Self::V2 => {
                let mut addresses = BytesMut::new();
                // The version, and "proxied", as against a health check of the proxy's own.
                let mut family = 0x00;
                if is_known {
                    family = if from.is_ipv4() { 0x11 } else { 0x21 };
                    for ip in [from, to] {
                        match ip {
                            IpAddr::V4(ip) => addresses.put_slice(&ip.octets()),
                            IpAddr::V6(ip) => addresses.put_slice(&ip.octets()),
                        }
                    }
                    addresses.put_u16(client.port());
                    addresses.put_u16(relay.port());
                }
                let mut header = BytesMut::with_capacity(16 + addresses.len());
                header.put_slice(&SIGNATURE);
                header.put_u8(0x21);
                header.put_u8(family);
                header.put_u16(addresses.len() as u16);
                header.put(addresses);
                header.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn headers_are_those_of_the_specification() {
        let (client, relay) = ("192.168.0.1:56324".parse().unwrap(), "192.168.0.11:443".parse().unwrap());
        let line = ProxyVersion::V1.header(client, relay);
        assert_eq!(line, "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        assert_eq!(
            ProxyVersion::V2.header(client, relay)[..],
            hex!("0d0a0d0a000d0a515549540a 21 11 000c c0a80001 c0a8000b dc04 01bb")
        );
        let six = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(ProxyVersion::V1.header(six, six), "PROXY TCP6 2001:db8::1 2001:db8::1 1 1\r\n");
        assert_eq!(ProxyVersion::V2.header(six, six).len(), 16 + 36);
        assert_eq!(ProxyVersion::V1.header(six, relay), "PROXY UNKNOWN\r\n");
        assert_eq!(ProxyVersion::V2.header(six, relay)[12..], hex!("21 00 0000"));
    }
}
