//! The beacon: one UDP datagram that says who is there and on which TCP port (RFC 36, "Discovery").
//!
//! ```text
//! offset  0  3        4       20
//!         "ZRE" 0x01  uuid    TCP port, big-endian; 0 = leaving
//! ```
//!
//! The address of the sender is that of the datagram; it is not in the beacon. Beacons of secured nodes are recognised,
//! and refused: what they need beyond this is not spoken here.
//!
//! A repeater (Alidron's, and ours) carries beacons between segments, and what it broadcasts is the beacon with the address
//! of its node behind it, as text. [`unrepeated`] takes the two apart.

use std::net::{IpAddr, Ipv4Addr};

use super::PeerId;

/// A node says that it is there, or that it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Beacon {
    /// Who.
    pub peer: PeerId,
    /// The TCP port of its inbox; 0 when it leaves.
    pub port: u16,
}

/// Why a datagram is not a beacon that we can use. No state changes: the datagram is to be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// Shorter than a beacon, or longer in a way that no known kind of beacon is.
    #[error("{len} bytes, a beacon has {}", Beacon::LEN)]
    Length {
        /// Length of the datagram in bytes.
        len: usize,
    },
    /// It does not start with `ZRE`: something else that uses the port.
    #[error("it does not start with ZRE")]
    Header,
    /// A version that nothing known sends.
    #[error("beacon version {version}, only version 1 is spoken")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// A zyre node with a CURVE certificate (beacon version 3, the public key follows).
    #[error("the node is secured with CURVE, this one is open")]
    Secure,
    /// A beacon that the Alidron repeater carried over from another segment (the text of an address follows).
    #[error("a repeater carried it over from {origin}")]
    Repeated {
        /// The address of the node that sent it first.
        origin: IpAddr,
    },
}

impl Beacon {
    /// Length of a beacon in bytes. pyre dies of any other, so nothing else is ever sent.
    pub const LEN: usize = 22;

    const HEADER: &[u8; 3] = b"ZRE";
    const VERSION: u8 = 1;
    const VERSION_SECURE: u8 = 3;
    /// A beacon and a CURVE public key.
    const LEN_SECURE: usize = Self::LEN + 32;

    /// The beacon of a node that leaves.
    pub const fn leaving(peer: PeerId) -> Self {
        Self { peer, port: 0 }
    }

    /// Whether the node leaves.
    pub const fn is_leaving(&self) -> bool {
        self.port == 0
    }

    /// The datagram.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut datagram = [0; Self::LEN];
        datagram[..3].copy_from_slice(Self::HEADER);
        datagram[3] = Self::VERSION;
        datagram[4..20].copy_from_slice(self.peer.as_bytes());
        datagram[20..].copy_from_slice(&self.port.to_be_bytes());
        datagram
    }

    /// Reads a datagram, which must be a beacon and nothing but a beacon.
    ///
    /// # Errors
    /// When it is not, with what it is as far as that can be told.
    pub fn decode(datagram: &[u8]) -> Result<Self, BeaconError> {
        let len = datagram.len();
        let Some((beacon, rest)) = datagram.split_first_chunk::<{ Self::LEN }>() else {
            return Err(BeaconError::Length { len });
        };
        if !beacon.starts_with(Self::HEADER) {
            return Err(BeaconError::Header);
        }
        match beacon[3] {
            Self::VERSION if rest.is_empty() => {}
            Self::VERSION => {
                let origin = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok());
                return Err(
                    origin.map_or(BeaconError::Length { len }, |origin| BeaconError::Repeated { origin })
                );
            }
            Self::VERSION_SECURE if len == Self::LEN_SECURE => return Err(BeaconError::Secure),
            Self::VERSION_SECURE => return Err(BeaconError::Length { len }),
            version => return Err(BeaconError::Version { version }),
        }
        let peer = beacon[4..20].try_into().expect("16 bytes are between 4 and 20");
        Ok(Self { peer: PeerId::from_bytes(peer), port: u16::from_be_bytes([beacon[20], beacon[21]]) })
    }
}

/// The beacon in a repeated beacon, and the address of the node that sent it first. `None` for everything else, also for
/// what two repeaters that heard each other have made: the text is one address that a node can have.
pub fn unrepeated(datagram: &[u8]) -> Option<(&[u8], IpAddr)> {
    let len = match *datagram.get(3)? {
        Beacon::VERSION => Beacon::LEN,
        Beacon::VERSION_SECURE => Beacon::LEN_SECURE,
        _ => return None,
    };
    // As nearly always: a plain one, with nothing behind it.
    let (beacon, origin) = datagram.split_at_checked(len).filter(|(_, origin)| !origin.is_empty())?;
    let origin: IpAddr = std::str::from_utf8(origin).ok()?.parse().ok()?;
    let is_broadcast = origin == IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_node = !origin.is_unspecified() && !origin.is_multicast() && !is_broadcast;
    (is_node && beacon.starts_with(Beacon::HEADER)).then_some((beacon, origin))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    /// RFC 36's layout with a UUID that counts up.
    const HERE: [u8; 22] = hex!("5a524501 101112131415161718191a1b1c1d1e1f c000");
    const LEAVING: [u8; 22] = hex!("5a524501 101112131415161718191a1b1c1d1e1f 0000");
    const PEER: PeerId = PeerId::from_bytes(hex!("101112131415161718191a1b1c1d1e1f"));

    #[test]
    fn a_beacon_is_22_bytes() {
        let here = Beacon { peer: PEER, port: 49152 };
        assert_eq!(here.encode(), HERE);
        assert_eq!(Beacon::decode(&HERE), Ok(here));
        assert!(!here.is_leaving());
    }

    #[test]
    fn port_zero_says_goodbye() {
        assert_eq!(Beacon::leaving(PEER).encode(), LEAVING);
        let leaving = Beacon::decode(&LEAVING).unwrap();
        assert_eq!(leaving, Beacon::leaving(PEER));
        assert!(leaving.is_leaving());
    }

    #[test]
    fn what_is_not_a_beacon_is_refused_with_its_reason() {
        let with = |at: usize, byte: u8| {
            let mut datagram = HERE.to_vec();
            datagram[at] = byte;
            datagram
        };
        let longer = |rest: &[u8]| [&HERE[..], rest].concat();
        for (datagram, reason) in [
            (Vec::new(), BeaconError::Length { len: 0 }),
            (HERE[..21].to_vec(), BeaconError::Length { len: 21 }),
            (longer(&[0]), BeaconError::Length { len: 23 }),
            (with(0, b'z'), BeaconError::Header),
            (with(3, 0), BeaconError::Version { version: 0 }),
            (with(3, 2), BeaconError::Version { version: 2 }),
            (with(3, 3), BeaconError::Length { len: 22 }),
            // zyre takes a version 1 beacon of 54 bytes for a plain one; nothing sends it.
            (longer(&[7; 32]), BeaconError::Length { len: 54 }),
            // aspyre's: version 1 and a Z85 key of 40 characters.
            (longer(&[b'a'; 40]), BeaconError::Length { len: 62 }),
        ] {
            assert_eq!(Beacon::decode(&datagram), Err(reason), "{datagram:02x?}");
        }
    }

    #[test]
    fn beacons_of_secured_nodes_are_recognised() {
        let mut datagram = [&HERE[..], &[0xa0; 32]].concat();
        datagram[3] = 3;
        assert_eq!(Beacon::decode(&datagram), Err(BeaconError::Secure));
    }

    #[test]
    fn repeated_beacons_are_recognised() {
        let datagram = [&HERE[..], b"10.81.0.12"].concat();
        let origin = "10.81.0.12".parse().unwrap();
        assert_eq!(Beacon::decode(&datagram), Err(BeaconError::Repeated { origin }));
    }

    #[test]
    fn a_repeated_beacon_is_taken_apart() {
        let secure = [&hex!("5a524503")[..], &HERE[4..], &[0xa0; 32]].concat();
        let origin: IpAddr = "10.81.0.12".parse().unwrap();
        for beacon in [&HERE[..], &LEAVING, &secure] {
            let datagram = [beacon, b"10.81.0.12"].concat();
            assert_eq!(unrepeated(&datagram), Some((beacon, origin)));
            assert_eq!(unrepeated(beacon), None);
        }
        let six = [&HERE[..], b"fd00::7"].concat();
        assert_eq!(unrepeated(&six), Some((&HERE[..], "fd00::7".parse().unwrap())));
    }

    #[test]
    fn what_no_repeater_means_is_no_repeated_beacon() {
        let texts: [&[u8]; 9] = [
            b"172.17.0.510.0.0.2",
            b"10.0.0.1\0",
            b" 10.0.0.1",
            b"10.0.0.1:5670",
            b"0.0.0.0",
            b"255.255.255.255",
            b"225.25.25.25",
            b"host",
            b"\xff",
        ];
        for text in texts {
            assert_eq!(unrepeated(&[&HERE[..], text].concat()), None, "{}", text.escape_ascii());
        }
        assert_eq!(unrepeated(&[&b"zre"[..], &HERE[3..], b"10.0.0.1"].concat()), None);
        assert_eq!(unrepeated(b"ZRE"), None);
    }

    proptest! {
        #[test]
        fn every_beacon_comes_back(peer: [u8; 16], port: u16) {
            let beacon = Beacon { peer: PeerId::from_bytes(peer), port };
            prop_assert_eq!(Beacon::decode(&beacon.encode()), Ok(beacon));
        }

        #[test]
        fn no_datagram_is_a_panic_and_every_accepted_one_is_canonical(
            datagram in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                (any::<[u8; 3]>(), proptest::collection::vec(any::<u8>(), 0..60), 0..80_usize).prop_map(
                    |(flip, tail, len)| {
                        let mut datagram = [&HERE[..], &tail].concat();
                        datagram[usize::from(flip[0]) % 22] ^= flip[1] & flip[2];
                        datagram.truncate(len);
                        datagram
                    }
                ),
            ]
        ) {
            if let Ok(beacon) = Beacon::decode(&datagram) {
                prop_assert_eq!(&beacon.encode()[..], &datagram[..]);
            }
        }
    }
}
