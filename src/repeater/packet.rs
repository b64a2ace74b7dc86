//! What repeaters send each other, and what they broadcast: a beacon, and the address of its node as text.
//!
//! ```text
//! beacon, 22 bytes (version 1) or 54 (version 3)   "10.81.0.12"
//! ```
//!
//! That is the format of the Alidron repeater. Nothing separates or ends the text, so a packet is one only when all of the
//! rest is one address. What a beacon says beyond its kind, its node and its port is not looked at, and not changed.

use std::fmt;
use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::zre::PeerId;
use crate::zre::beacon::unrepeated;

/// A beacon of either kind, as its node sent it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawBeacon {
    bytes: [u8; Self::LEN_MAX],
    len: u8,
}

/// A beacon, and where its node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What the node said.
    pub beacon: RawBeacon,
    /// The address at which the node is reached.
    pub origin: IpAddr,
}

/// Why bytes are no beacon, or no packet. Whoever sent them is at fault; they are to be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// No beacon of version 1 with 22 bytes or of version 3 with 54.
    #[error("{len} bytes that are no beacon")]
    Beacon {
        /// Their number.
        len: usize,
    },
    /// No beacon with one address of a node behind it.
    #[error("{len} bytes that are no beacon with the address of its node")]
    Packet {
        /// Their number.
        len: usize,
    },
}

impl RawBeacon {
    /// A beacon of version 3: with a public key.
    pub const LEN_MAX: usize = 54;
    const LEN: usize = 22;

    /// Reads a datagram that is a beacon and nothing else.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decode(datagram: &[u8]) -> Result<Self, PacketError> {
        let len = datagram.len();
        let is_beacon =
            datagram.starts_with(b"ZRE") && matches!((datagram.get(3), len), (Some(1), 22) | (Some(3), 54));
        if !is_beacon {
            return Err(PacketError::Beacon { len });
        }
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..len].copy_from_slice(datagram);
        Ok(Self { bytes, len: len as u8 })
    }

    /// The datagram.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Who sent it.
    pub fn peer(&self) -> PeerId {
        PeerId::from_bytes(self.bytes[4..20].try_into().expect("16 bytes are between 4 and 20"))
    }

    /// The TCP port of the node's inbox; 0 when it leaves.
    pub fn port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[20], self.bytes[21]])
    }

    /// Whether the node leaves.
    pub fn is_leaving(&self) -> bool {
        self.port() == 0
    }

    /// The same with another port.
    pub fn with_port(mut self, port: u16) -> Self {
        self.bytes[20..Self::LEN].copy_from_slice(&port.to_be_bytes());
        self
    }
}

impl fmt::Debug for RawBeacon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} {} at {}", self.bytes[3], self.peer(), self.port())
    }
}

impl Packet {
    /// The longest packet: a beacon of version 3 and the text of an IPv6 address.
    pub const LEN_MAX: usize = RawBeacon::LEN_MAX + 45;

    /// Reads a packet.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        let (beacon, origin) = unrepeated(bytes).ok_or(PacketError::Packet { len: bytes.len() })?;
        Ok(Self { beacon: RawBeacon::decode(beacon)?, origin })
    }

    /// The bytes: a datagram, or the only frame of a message.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::LEN_MAX);
        bytes.put_slice(self.beacon.as_bytes());
        bytes.put_slice(self.origin.to_string().as_bytes());
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    /// The original's, from the capture alidron-repeater: of the node at 10.81.0.12 (pyre).
    const GOLDEN: &[u8] = &hex!("5a524501 eb5e3b02bde44b84bf51d3620e40ce1e aafd 31302e38312e302e3132");

    #[test]
    fn a_packet_is_the_originals() {
        let packet = Packet::decode(GOLDEN).unwrap();
        assert_eq!(packet.origin, "10.81.0.12".parse::<IpAddr>().unwrap());
        assert_eq!(packet.beacon.peer(), "EB5E3B02BDE44B84BF51D3620E40CE1E".parse().unwrap());
        assert_eq!((packet.beacon.port(), packet.beacon.is_leaving()), (43773, false));
        assert_eq!(packet.encode(), GOLDEN);
    }

    #[test]
    fn a_secure_beacon_keeps_its_key_and_its_port_can_be_another() {
        let secure = [&hex!("5a524503")[..], &GOLDEN[4..22], &[7; 32]].concat();
        let beacon = RawBeacon::decode(&secure).unwrap();
        assert_eq!(beacon.as_bytes(), secure);
        let moved = beacon.with_port(23400);
        assert_eq!((moved.port(), moved.peer()), (23400, beacon.peer()));
        assert_eq!(moved.with_port(beacon.port()), beacon);
        let packet = Packet { beacon, origin: "fd00::1".parse().unwrap() };
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }

    #[test]
    fn beacons_are_22_or_54_bytes() {
        let with = |version: u8, len: usize| {
            let mut bytes = GOLDEN[..22].to_vec();
            bytes[3] = version;
            bytes.resize(len, 0);
            RawBeacon::decode(&bytes).is_ok()
        };
        assert!(with(1, 22) && with(3, 54));
        for (version, len) in
            [(1, 21), (1, 23), (1, 54), (1, 62), (3, 22), (3, 53), (3, 55), (2, 22), (0, 22)]
        {
            assert!(!with(version, len), "version {version}, {len} bytes");
        }
        assert!(Packet::decode(&GOLDEN[..22]).is_err());
        assert!(Packet::decode(&[GOLDEN, b"10.0.0.1"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_and_every_packet_comes_back(
            head in prop_oneof![Just(GOLDEN[..22].to_vec()), proptest::collection::vec(any::<u8>(), 0..60)],
            tail in prop_oneof![Just(Vec::new()), any::<IpAddr>().prop_map(|ip| ip.to_string().into_bytes()),
                proptest::collection::vec(any::<u8>(), 0..60)],
        ) {
            let bytes = [head, tail].concat();
            if let Ok(packet) = Packet::decode(&bytes) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
                prop_assert!(packet.encode().len() <= Packet::LEN_MAX);
            }
            if let Ok(beacon) = RawBeacon::decode(&bytes) {
                prop_assert_eq!(beacon.as_bytes(), &bytes[..]);
            }
        }
    }
}
