//! Who speaks how: the same messages, with other keys, lifetimes and frames around them.
//!
//! | | czmq | Haskell | Hailer's client | Hailer's hub |
//! |---|---|---|---|---|
//! | identity of the DEALER | none | UUID, 16 bytes | [`Identity`] | [`Identity`] |
//! | key of a node | UUID, 32 digits | UUID, 16 bytes | UUID, 32 digits | [`Stamped`] |
//! | ttl | 0, no meaning | seconds | milliseconds left, 0: withdrawn | the same |
//! | frames from the hub | message | identity, message | message | message |
//!
//! A hub knows the dialect of a client by its identity before the first message. A client can't tell the hubs of the two
//! originals apart before they answer; see [`uplink`](super::uplink). A ROUTER of Hailer has an [`Identity`], too.
//!
//! This file translates. Who is told what is the hub's business.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::message::{KEY_MAX, Message, Publish};
use crate::zmtp::Multipart;
use crate::zre::{Endpoint, PeerId, Text};

/// The lifetime that the Haskell tools give their tuples, and expect of others'.
const HASKELL_TTL_S: u32 = 600;

/// The name of a tuple, whoever wrote it how.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A node.
    Peer(PeerId),
    /// Whatever else programs publish by czmq's `zgossip`; not 32 hexadecimal digits.
    Other(Bytes),
}

/// Whose way of speaking a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// czmq's zgossip, and so zyre; gyre too.
    Czmq,
    /// The Haskell tools.
    Haskell,
    /// A node of Hailer.
    Client,
    /// A hub of Hailer.
    Hub,
}

/// What gossip sockets of Hailer have for an identity: `hailer`, a letter for the role, who, and a number that makes each
/// connection's different: a ROUTER may ignore a second connection with the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) is_hub: bool,
    pub(super) id: PeerId,
}

/// A key between two hubs: which hub had the tuple from its client (16 bytes), the number of this news among all of that
/// hub's (8 bytes), and the key. What is older than what is known goes no further, so news can't go round in circles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamped {
    pub(super) origin: PeerId,
    pub(super) stamp: u64,
    pub(super) key: Key,
}

impl Key {
    /// The key behind these bytes in a dialect, but for [`Dialect::Hub`]; `None` when it has no such.
    pub(super) fn read(bytes: &Bytes, dialect: Dialect) -> Option<Self> {
        if dialect == Dialect::Haskell {
            return bytes[..].try_into().ok().map(|id| Self::Peer(PeerId::from_bytes(id)));
        }
        let is_hex = bytes.len() == 32 && bytes.iter().all(u8::is_ascii_hexdigit);
        let id = std::str::from_utf8(bytes).ok().filter(|_| is_hex).and_then(|text| text.parse().ok());
        // Copied, because a slice would keep the whole piece that it was received in.
        Some(id.map_or_else(|| Self::Other(Bytes::copy_from_slice(bytes)), Self::Peer))
    }

    /// The key as all but the Haskell tools write it.
    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Peer(id) => id.to_string().into(),
            Self::Other(bytes) => bytes.clone(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Peer(_) => 32,
            Self::Other(bytes) => bytes.len(),
        }
    }
}

impl fmt::Display for Key {
    /// As czmq's clients know it; bytes that are not UTF-8 appear as the replacement character.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.to_bytes()), f)
    }
}

impl Dialect {
    /// The dialect of a client whose DEALER has this identity.
    pub(super) fn of_client(identity: &[u8]) -> Self {
        match Identity::read(identity) {
            Some(Identity { is_hub: true, .. }) => Self::Hub,
            Some(Identity { is_hub: false, .. }) => Self::Client,
            None if identity.len() == 16 => Self::Haskell,
            None => Self::Czmq,
        }
    }

    /// For logs and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Czmq => "czmq",
            Self::Haskell => "haskell",
            Self::Client => "hailer",
            Self::Hub => "hub",
        }
    }

    /// A tuple in a dialect other than [`Dialect::Hub`]; `None` when it can't be said in it, or would do harm. `left_ms` is
    /// how long it lives, 0 when it is withdrawn.
    pub(super) fn publish(self, key: &Key, value: &Text, left_ms: u32) -> Option<Message> {
        let (key, ttl) = match self {
            Self::Czmq => {
                // C strings; a tuple can't be withdrawn.
                let is_string = |bytes: &[u8]| !bytes.is_empty() && !bytes.contains(&0);
                let key = key.to_bytes();
                let can_be_said = left_ms > 0 && is_string(&key) && is_string(value.as_bytes());
                (can_be_said.then_some(key)?, 0)
            }
            Self::Haskell => {
                let Key::Peer(id) = key else { return None };
                // Secured nodes refuse the Haskell tools, which would take the public key for a part of the port.
                let is_plain = Value::read(value).is_some_and(|value| !value.is_secure);
                let ttl = if left_ms > 0 { HASKELL_TTL_S } else { 0 };
                (is_plain.then(|| Bytes::copy_from_slice(id.as_bytes()))?, ttl)
            }
            Self::Client | Self::Hub => (key.to_bytes(), left_ms),
        };
        Some(Message::Publish(Publish { key, value: value.clone(), ttl }))
    }

    /// The frames of a message from a hub to a client with this identity.
    pub(super) fn frames(self, identity: &Bytes, message: &Message) -> Option<Multipart> {
        let frame = message.encode().ok()?;
        Some(if self == Self::Haskell { vec![identity.clone(), frame] } else { vec![frame] })
    }
}

/// What the value of a node's tuple says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) endpoint: Endpoint,
    /// It has a public key behind a bar: the node wants CURVE.
    pub(crate) is_secure: bool,
}

impl Value {
    pub(crate) fn read(value: &Text) -> Option<Self> {
        let text = value.as_str()?;
        let (endpoint, is_secure) = text.split_once('|').map_or((text, false), |(before, _)| (before, true));
        Some(Self { endpoint: endpoint.parse().ok()?, is_secure })
    }
}

impl Identity {
    const MARK: &[u8] = b"hailer";
    const LEN: usize = 6 + 1 + 16 + 8;

    pub(super) fn to_bytes(self, number: u64) -> Bytes {
        let mut to = BytesMut::with_capacity(Self::LEN);
        to.put_slice(Self::MARK);
        to.put_u8(if self.is_hub { b'h' } else { b'c' });
        to.put_slice(self.id.as_bytes());
        to.put_u64(number);
        to.freeze()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(Self::MARK).filter(|_| bytes.len() == Self::LEN)?;
        let is_hub = match rest[0] {
            b'h' => true,
            b'c' => false,
            _ => return None,
        };
        let id = rest[1..17].try_into().ok()?;
        Some(Self { is_hub, id: PeerId::from_bytes(id) })
    }
}

impl Stamped {
    const PREFIX: usize = 16 + 8;
    /// Longer keys are told to clients only.
    pub(super) const KEY_MAX: usize = KEY_MAX - Self::PREFIX;

    pub(super) fn to_bytes(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(Self::PREFIX + self.key.len());
        to.put_slice(self.origin.as_bytes());
        to.put_u64(self.stamp);
        to.put_slice(&self.key.to_bytes());
        to.freeze()
    }

    pub(super) fn read(bytes: &Bytes) -> Option<Self> {
        let origin = bytes.get(..16)?.try_into().ok().map(PeerId::from_bytes)?;
        let stamp = bytes.get(16..24)?.try_into().ok().map(u64::from_be_bytes)?;
        Some(Self { origin, stamp, key: Key::read(&bytes.slice(24..), Dialect::Hub)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: PeerId = PeerId::from_bytes([0xa1; 16]);

    fn said(dialect: Dialect, key: &Key, value: &str, left_ms: u32) -> Option<(Vec<u8>, u32)> {
        match dialect.publish(key, &value.into(), left_ms) {
            Some(Message::Publish(Publish { key, ttl, .. })) => Some((key.to_vec(), ttl)),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    }

    #[test]
    fn a_node_has_the_key_and_the_ttl_of_whoever_hears_of_it() {
        let (key, value) = (Key::Peer(ALICE), "tcp://10.0.0.1:49152");
        let digits = "A1".repeat(16).into_bytes();
        assert_eq!(said(Dialect::Czmq, &key, value, 9000), Some((digits.clone(), 0)));
        assert_eq!(said(Dialect::Haskell, &key, value, 9000), Some((vec![0xa1; 16], 600)));
        assert_eq!(said(Dialect::Client, &key, value, 9000), Some((digits, 9000)));
    }

    #[test]
    fn keys_of_all_dialects_are_the_same_key() {
        for (bytes, dialect) in [
            (&[0xa1; 16][..], Dialect::Haskell),
            ("A1".repeat(16).as_bytes(), Dialect::Czmq),
            ("a1".repeat(16).as_bytes(), Dialect::Client),
        ] {
            assert_eq!(Key::read(&Bytes::copy_from_slice(bytes), dialect), Some(Key::Peer(ALICE)));
        }
        let other = Bytes::from_static(b"inproc://alpha-1");
        assert_eq!(other.len(), 16);
        assert_eq!(Key::read(&other, Dialect::Czmq), Some(Key::Other(other.clone())));
        assert_eq!(Key::read(&Bytes::from_static(b"short"), Dialect::Haskell), None);
    }

    #[test]
    fn what_would_do_harm_is_not_said() {
        let (peer, other) = (Key::Peer(ALICE), Key::Other(Bytes::from_static(b"printer")));
        let secure = format!("tcp://10.0.0.1:49152|{}", "k".repeat(40));
        assert_eq!(said(Dialect::Haskell, &peer, &secure, 1), None);
        assert_eq!(said(Dialect::Haskell, &peer, "no endpoint", 1), None);
        assert_eq!(said(Dialect::Haskell, &other, "tcp://10.0.0.1:49152", 1), None);
        assert_eq!(said(Dialect::Czmq, &Key::Other(Bytes::from_static(b"a\0b")), "x", 1), None);
        assert_eq!(said(Dialect::Czmq, &other, "a\0b", 1), None);
        assert_eq!(said(Dialect::Czmq, &other, "", 1), None);
        assert_eq!(said(Dialect::Czmq, &other, "x", 0), None, "czmq knows no withdrawal");
        assert!(said(Dialect::Czmq, &peer, &secure, 1).is_some());
    }

    #[test]
    fn a_hub_knows_its_clients_by_their_identities() {
        let identity = |is_hub| Identity { is_hub, id: ALICE }.to_bytes(7);
        assert_eq!(Dialect::of_client(b""), Dialect::Czmq);
        assert_eq!(Dialect::of_client(b"named by its user"), Dialect::Czmq);
        assert_eq!(Dialect::of_client(&[9; 16]), Dialect::Haskell);
        assert_eq!(Dialect::of_client(&identity(false)), Dialect::Client);
        assert_eq!(Dialect::of_client(&identity(true)), Dialect::Hub);
        assert_eq!(Identity::read(&identity(true)), Some(Identity { is_hub: true, id: ALICE }));
        assert_ne!(identity(true)[0], 0, "identities that begin with a zero are libzmq's own");
    }

    #[test]
    fn a_message_to_the_haskell_tools_has_their_identity_before_it() {
        let identity = Bytes::from_static(&[0xa1; 16]);
        let pong = Message::Pong.encode().unwrap();
        assert_eq!(
            Dialect::Haskell.frames(&identity, &Message::Pong).unwrap(),
            [identity.clone(), pong.clone()]
        );
        assert_eq!(Dialect::Czmq.frames(&identity, &Message::Pong).unwrap(), [pong]);
    }

    proptest! {
        #[test]
        fn a_stamped_key_is_read_as_it_was_written(
            origin in any::<[u8; 16]>(), stamp in any::<u64>(), key in prop::collection::vec(any::<u8>(), 0..=231),
        ) {
            let key = Key::read(&key.into(), Dialect::Czmq).unwrap();
            let stamped = Stamped { origin: PeerId::from_bytes(origin), stamp, key };
            let bytes = stamped.to_bytes();
            prop_assert!(bytes.len() <= KEY_MAX);
            prop_assert_eq!(Stamped::read(&bytes), Some(stamped));
        }

        #[test]
        fn any_bytes_are_a_key_or_not_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = Stamped::read(&bytes);
            let _ = Identity::read(&bytes);
            let _ = Value::read(&bytes.clone().into());
            for dialect in [Dialect::Czmq, Dialect::Haskell, Dialect::Client] {
                if let Some(key) = Key::read(&bytes, dialect) {
                    prop_assert_eq!(Key::read(&key.to_bytes(), Dialect::Client), Some(key));
                }
            }
        }
    }
}
