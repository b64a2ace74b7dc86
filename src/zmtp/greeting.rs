//! The greeting: the first 64 bytes in each direction (RFC 37, "Version Negotiation" and "Security Mechanism").
//!
//! ```text
//! offset  0     1        9     10     11     12                     32         33
//!         0xff  padding  0x7f  major  minor  mechanism, NUL padded  as-server  filler
//! ```
//!
//! libzmq sends the first 10 bytes, waits for ours, and only then sends the rest; whoever waits for a whole greeting
//! before sending one waits for ever.

use std::fmt;

/// What one side says of itself before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// Without meaning in ZMTP 3; libzmq writes the length of its identity plus one, for peers that speak ZMTP 1.
    pub padding: u64,
    /// 0 for ZMTP 3.0, 1 for 3.1. The major version is 3.
    pub minor: u8,
    /// How the connection is to be secured.
    pub mechanism: Mechanism,
    /// Which side is the server, for mechanisms that have one. libzmq always writes 0, so it can't be relied on.
    pub as_server: bool,
}

/// How a connection is secured.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// Not at all.
    Null,
    /// User name and password in clear text (RFC 24).
    Plain,
    /// Curve25519 (RFC 26).
    Curve,
    /// Any other name, as it was sent.
    Other([u8; 20]),
}

/// Why bytes are not a greeting that we can follow. The peer speaks something else: the connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// No signature of ZMTP 2 or later: ZMTP 1, or not ZeroMQ at all.
    #[error("it does not start as ZMTP does: the peer is not ZeroMQ, or older than libzmq 3")]
    Signature,
    /// ZMTP 1 or 2.
    #[error("the peer speaks ZMTP {major}, version 3 is needed")]
    Version {
        /// The peer's major version.
        major: u8,
    },
}

impl Greeting {
    /// Length of a greeting in bytes.
    pub const LEN: usize = 64;

    const SIGNATURE_FIRST: u8 = 0xff;
    const SIGNATURE_LAST: u8 = 0x7f;
    /// Peers with a later version speak ours (RFC 37: "accept higher protocol versions as valid").
    const MAJOR: u8 = 3;

    /// The greeting that libzmq sends without a mechanism for a socket with an identity of `identity_len` bytes.
    pub const fn null(identity_len: usize) -> Self {
        Self { padding: identity_len as u64 + 1, minor: 1, mechanism: Mechanism::Null, as_server: false }
    }

    /// The bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = Self::SIGNATURE_FIRST;
        bytes[1..9].copy_from_slice(&self.padding.to_be_bytes());
        bytes[9] = Self::SIGNATURE_LAST;
        bytes[10] = Self::MAJOR;
        bytes[11] = self.minor;
        bytes[12..32].copy_from_slice(&self.mechanism.to_bytes());
        bytes[32] = u8::from(self.as_server);
        bytes
    }

    /// Reads a greeting, or answers `None` when `bytes` may become one. What follows it is not looked at.
    ///
    /// # Errors
    /// As soon as it is sure that the bytes are no greeting of ZMTP 3: an older peer would wait for ever for an answer
    /// before it sends more.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, GreetingError> {
        let is_at = |at: usize, byte: u8| bytes.get(at).is_none_or(|have| *have == byte);
        if !is_at(0, Self::SIGNATURE_FIRST) || !is_at(9, Self::SIGNATURE_LAST) {
            return Err(GreetingError::Signature);
        }
        if let Some(major) = bytes.get(10).copied().filter(|major| *major < Self::MAJOR) {
            return Err(GreetingError::Version { major });
        }
        let Some(bytes) = bytes.first_chunk::<{ Self::LEN }>() else {
            return Ok(None);
        };
        let part = |at: usize| -> [u8; 8] { bytes[at..at + 8].try_into().expect("8 bytes are 8 bytes") };
        let mechanism = bytes[12..32].try_into().expect("20 bytes are between 12 and 32");
        Ok(Some(Self {
            padding: u64::from_be_bytes(part(1)),
            // What a later major version calls its minor version says nothing about ours.
            minor: if bytes[10] > Self::MAJOR { 1 } else { bytes[11] },
            mechanism: Mechanism::from_bytes(mechanism),
            as_server: bytes[32] != 0,
        }))
    }
}

impl Mechanism {
    const fn name(&self) -> Option<&'static [u8]> {
        match self {
            Self::Null => Some(b"NULL"),
            Self::Plain => Some(b"PLAIN"),
            Self::Curve => Some(b"CURVE"),
            Self::Other(_) => None,
        }
    }

    fn to_bytes(self) -> [u8; 20] {
        if let Self::Other(bytes) = self {
            return bytes;
        }
        let name = self.name().expect("only others have no name");
        let mut bytes = [0; 20];
        bytes[..name.len()].copy_from_slice(name);
        bytes
    }

    fn from_bytes(bytes: [u8; 20]) -> Self {
        [Self::Null, Self::Plain, Self::Curve]
            .into_iter()
            .find(|mechanism| mechanism.to_bytes() == bytes)
            .unwrap_or(Self::Other(bytes))
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.to_bytes();
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        fmt::Display::fmt(&bytes[..len].escape_ascii(), f)
    }
}

impl fmt::Debug for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    /// What libzmq 4.3 sends for a DEALER with ZRE's 17-byte identity (capture zyre-zyre).
    const DEALER: [u8; 64] = hex!(
        "ff 0000000000000012 7f 03 01 4e554c4c 00000000000000000000000000000000 00"
        "00000000000000000000000000000000000000000000000000000000000000"
    );

    #[test]
    fn the_greeting_is_libzmqs() {
        assert_eq!(Greeting::null(17).encode(), DEALER);
        assert_eq!(Greeting::decode(&DEALER), Ok(Some(Greeting::null(17))));
    }

    #[test]
    fn a_cut_greeting_is_not_yet_a_greeting() {
        for len in 0..64 {
            assert_eq!(Greeting::decode(&DEALER[..len]), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn padding_filler_and_as_server_are_not_checked() {
        let mut bytes = DEALER;
        bytes[1..9].fill(0xaa);
        bytes[32..].fill(0xbb);
        let greeting = Greeting::decode(&bytes).unwrap().unwrap();
        assert_eq!((greeting.minor, greeting.mechanism), (1, Mechanism::Null));
    }

    #[test]
    fn every_version_from_3_on_is_accepted() {
        for (major, minor, taken_for) in [(3, 0, 0), (3, 1, 1), (3, 7, 7), (4, 0, 1), (255, 9, 1)] {
            let mut bytes = DEALER;
            (bytes[10], bytes[11]) = (major, minor);
            assert_eq!(Greeting::decode(&bytes).unwrap().unwrap().minor, taken_for, "{major}.{minor}");
        }
    }

    #[test]
    fn older_peers_and_strangers_are_refused_at_the_first_byte_that_tells() {
        // ZMTP 1: a short anonymous identity frame. HTTP. ZMTP 2: revision 1 after the signature.
        assert_eq!(Greeting::decode(&[1, 0]), Err(GreetingError::Signature));
        assert_eq!(Greeting::decode(b"GET"), Err(GreetingError::Signature));
        assert_eq!(Greeting::decode(&hex!("ff 0000000000000001 7e")), Err(GreetingError::Signature));
        assert_eq!(
            Greeting::decode(&hex!("ff 0000000000000001 7f 01")),
            Err(GreetingError::Version { major: 1 })
        );
    }

    #[test]
    fn mechanisms_are_shown_by_name() {
        let mut curve = DEALER;
        curve[12..17].copy_from_slice(b"CURVE");
        assert_eq!(Greeting::decode(&curve).unwrap().unwrap().mechanism, Mechanism::Curve);
        let mut odd = [0; 20];
        odd[..4].copy_from_slice(b"a\0\xffb");
        assert_eq!(Mechanism::from_bytes(odd).to_string(), r"a\x00\xffb");
        assert_eq!(Mechanism::Null.to_string(), "NULL");
        // A name must be padded with NULs to its full length.
        odd = [0; 20];
        odd[..5].copy_from_slice(b"NULLX");
        assert_eq!(Mechanism::from_bytes(odd), Mechanism::Other(odd));
    }

    proptest! {
        #[test]
        fn every_greeting_comes_back(padding: u64, minor: u8, name: [u8; 20], as_server: bool) {
            let greeting = Greeting { padding, minor, mechanism: Mechanism::from_bytes(name), as_server };
            prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(Some(greeting)));
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0..64_usize, flip: u8) {
            let _ = Greeting::decode(&bytes);
            let mut flipped = DEALER;
            flipped[at] ^= flip;
            let _ = Greeting::decode(&flipped);
        }
    }
}
