//! What a node tells its application.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::Text;

/// Headers of a peer: facts it tells about itself, by key.
pub type Headers = BTreeMap<Text, Text>;

/// The identity of one life of one node: its UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId([u8; 16]);

impl PeerId {
    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A random identity (UUID version 4) from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }

    /// The bytes, as beacons carry them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The ZMTP identity of this node's sockets: 1 and the bytes, as zyre and pyre write it.
    pub(super) fn to_zmtp(self) -> Bytes {
        [&[1], &self.0[..]].concat().into()
    }

    /// The node behind a ZMTP identity: 16 bytes, with one more before them as a rule (the Haskell tools write the
    /// character 1; nobody reads it).
    pub(crate) fn from_zmtp(identity: &[u8]) -> Option<Self> {
        let bytes = if identity.len() == 17 { &identity[1..] } else { identity };
        bytes.try_into().ok().map(Self)
    }
}

/// By the bytes. As numbers, because every message looks its peer up.
impl Ord for PeerId {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for PeerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PeerId {
    /// 32 upper-case hexadecimal digits, as zyre prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerId {
    type Err = uuid::Error;

    /// Reads 32 hexadecimal digits in either case, with or without dashes.
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Ok(Self(uuid::Uuid::from_str(text)?.into_bytes()))
    }
}

/// What happened on the network, as an application sees it (RFC 36, and zyre's `zyre_event`).
///
/// ENTER comes first and EXIT last for each peer; JOIN of its groups follows ENTER at once; no LEAVE precedes EXIT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer is there: both sides can talk.
    Enter {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// What it tells about itself.
        headers: Headers,
        /// Where it listens, as it says.
        endpoint: Text,
    },
    /// A peer is gone.
    Exit {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// How we know.
        reason: ExitReason,
    },
    /// A peer joined a group.
    Join {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// Which group.
        group: Text,
    },
    /// A peer left a group.
    Leave {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// Which group.
        group: Text,
    },
    /// A peer was quiet, was asked, and has not answered yet.
    Evasive {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
    },
    /// A peer has been evasive for long; it may be gone.
    Silent {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
    },
    /// A group has another leader: of those that stand in it, the one with the smallest identity. It may be ourselves.
    Leader {
        /// Who leads.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// Which group.
        group: Text,
    },
    /// A peer sent a message to us alone.
    Whisper {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// The frames of the message, at least one.
        content: Vec<Bytes>,
    },
    /// A peer sent a message to a group.
    Shout {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: Text,
        /// Which group.
        group: Text,
        /// The frames of the message, at least one.
        content: Vec<Bytes>,
    },
    /// Our own node has stopped. Nothing follows.
    Stop,
}

/// How a node knows that a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ExitReason {
    /// It said goodbye.
    Left,
    /// Nothing was heard from it for the expired time.
    Expired,
    /// It was silent, did not answer, and nothing at its place takes connections or refuses them: the machine is gone, or the
    /// way to it.
    Unreachable,
    /// Its connections are closed and its port refuses new ones: the process is gone.
    Refused,
    /// Another identity answers at its endpoint, or it introduced itself anew: the process was restarted.
    Replaced,
    /// Messages of it were lost, or made no sense; it will enter again with its next beacon.
    OutOfSequence,
    /// It did not take what we sent fast enough.
    TooSlow,
}

impl ExitReason {
    /// The reason in a word, for logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Expired => "expired",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Replaced => "replaced",
            Self::OutOfSequence => "out-of-sequence",
            Self::TooSlow => "too-slow",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
