//! Gossip messages: what czmq's zgossip and the Haskell `zgossip` say to their hub, and it to them (`zgossip_msg.bnf`).
//!
//! ```text
//! 0xaa 0xa0   id   version (1)   fields
//!
//! 1 HELLO, 3 PING, 4 PONG, 5 INVALID   no fields
//! 2 PUBLISH                            key: length in 1 byte, bytes; value: length in 4 bytes, bytes; ttl: 4 bytes
//! ```
//!
//! All numbers are big-endian. Both families use these bytes; what keys, ttl and the frames around a message are differs and
//! is the business of [`dialect`](super::dialect). Bytes after the last field are ignored, as both do.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Cut, Reader};
use crate::zre::Text;

/// The longest key: the format gives its length one byte.
pub const KEY_MAX: usize = u8::MAX as usize;
/// The longest value. Those of nodes are an endpoint and perhaps a public key, some 300 bytes at most; what programs of
/// their own publish may be longer. A hub holds every value and sends it to everybody.
pub const VALUE_MAX: usize = 4 << 10;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A client wants to hear all tuples, and new ones from now on.
    Hello,
    /// A tuple.
    Publish(Publish),
    /// A client wants a sign of life.
    Ping,
    /// The answer to PING.
    Pong,
    /// The hub does not know the client, which should say HELLO.
    Invalid,
}

/// A tuple as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Its name: any bytes, at most [`KEY_MAX`].
    pub key: Bytes,
    /// What it says, at most [`VALUE_MAX`] bytes.
    pub value: Text,
    /// How long it lives. In milliseconds by czmq's description, which sends and believes 0; in seconds in the Haskell tools.
    pub ttl: u32,
}

/// Why a message can't be sent: it is over a limit of this module. The caller is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {field} has {len} bytes, at most {max} are allowed")]
pub struct TooLong {
    /// What.
    pub field: &'static str,
    /// Its length in bytes.
    pub len: usize,
    /// The limit.
    pub max: usize,
}

/// Why a frame is not a message that we understand. The peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It ends inside a field.
    #[error("it ends inside the {field}")]
    Cut {
        /// Which.
        field: &'static str,
    },
    /// It is not a gossip message.
    #[error("the signature is {signature:#06x}, that of gossip is {:#06x}", Message::SIGNATURE)]
    Signature {
        /// The first two bytes.
        signature: u16,
    },
    /// Another version of the protocol.
    #[error("message version {version}, only version {} is spoken", Message::VERSION)]
    Version {
        /// Which.
        version: u8,
    },
    /// A message that nobody knows.
    #[error("unknown message id {id}")]
    UnknownId {
        /// The id.
        id: u8,
    },
    /// Something is over a limit.
    #[error(transparent)]
    Limit(#[from] TooLong),
}

impl From<Cut> for DecodeError {
    fn from(Cut { field }: Cut) -> Self {
        Self::Cut { field }
    }
}

impl Message {
    const SIGNATURE: u16 = 0xaaa0;
    const VERSION: u8 = 1;
    const HEADER_LEN: usize = 4;

    const HELLO: u8 = 1;
    const PUBLISH: u8 = 2;
    const PING: u8 = 3;
    const PONG: u8 = 4;
    const INVALID: u8 = 5;

    /// The message's number on the wire.
    pub const fn id(&self) -> u8 {
        match self {
            Self::Hello => Self::HELLO,
            Self::Publish(_) => Self::PUBLISH,
            Self::Ping => Self::PING,
            Self::Pong => Self::PONG,
            Self::Invalid => Self::INVALID,
        }
    }

    /// Its length in bytes.
    pub fn encoded_len(&self) -> usize {
        Self::HEADER_LEN
            + match self {
                Self::Publish(Publish { key, value, .. }) => 1 + key.len() + 4 + value.len() + 4,
                _ => 0,
            }
    }

    /// The frame of the message.
    ///
    /// # Errors
    /// When something is over a limit.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        let mut to = BytesMut::with_capacity(self.encoded_len());
        to.put_u16(Self::SIGNATURE);
        to.put_u8(self.id());
        to.put_u8(Self::VERSION);
        if let Self::Publish(Publish { key, value, ttl }) = self {
            check("key", key.len(), KEY_MAX)?;
            check("value", value.len(), VALUE_MAX)?;
            to.put_u8(key.len() as u8);
            to.put_slice(key);
            to.put_u32(value.len() as u32);
            to.put_slice(value.as_bytes());
            to.put_u32(*ttl);
        }
        Ok(to.freeze())
    }

    /// Reads a message. Key and value are slices of the frame.
    ///
    /// # Errors
    /// When the frame is not a message of this protocol, or it is over a limit.
    pub fn decode(frame: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let signature = reader.u16("signature")?;
        if signature != Self::SIGNATURE {
            return Err(DecodeError::Signature { signature });
        }
        let id = reader.u8("id")?;
        let version = reader.u8("version")?;
        if version != Self::VERSION {
            return Err(DecodeError::Version { version });
        }
        Ok(match id {
            Self::HELLO => Self::Hello,
            Self::PUBLISH => {
                let key = reader.short("key")?;
                let len = reader.u32("length of the value")? as usize;
                check("value", len, VALUE_MAX)?;
                let value = reader.take(len, "value")?.into();
                Self::Publish(Publish { key, value, ttl: reader.u32("ttl")? })
            }
            Self::PING => Self::Ping,
            Self::PONG => Self::Pong,
            Self::INVALID => Self::Invalid,
            id => return Err(DecodeError::UnknownId { id }),
        })
    }
}

const fn check(field: &'static str, len: usize, max: usize) -> Result<(), TooLong> {
    if len > max { Err(TooLong { field, len, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn publish(key: &[u8], value: &str, ttl: u32) -> Message {
        Message::Publish(Publish { key: Bytes::copy_from_slice(key), value: value.into(), ttl })
    }

    fn holds(message: &Message, frame: &[u8]) {
        assert_eq!(message.encode().unwrap(), frame);
        assert_eq!(message.encoded_len(), frame.len());
        assert_eq!(Message::decode(Bytes::copy_from_slice(frame)).as_ref(), Ok(message));
    }

    #[test]
    fn messages_have_the_bytes_of_czmq_and_of_the_haskell_tools() {
        holds(&Message::Hello, &hex!("aaa00101"));
        holds(&Message::Ping, &hex!("aaa00301"));
        holds(&Message::Pong, &hex!("aaa00401"));
        holds(&Message::Invalid, &hex!("aaa00501"));
        // bob in the capture zyre-gossip
        holds(
            &publish(b"1C5E4E0EF96146A78269E3FDF83CCC14", "tcp://10.77.0.2:49152", 0),
            &hex!(
                "aaa00201203143354534453045463936313436413738323639453346444638334343433134"
                "000000157463703a2f2f31302e37372e302e323a343931353200000000"
            ),
        );
        // hs in the capture hs-gossip
        holds(
            &publish(&hex!("fd0dd4d4e57f11f18001323f20e00774"), "tcp://10.77.0.2:41030", 600),
            &hex!(
                "aaa0020110fd0dd4d4e57f11f18001323f20e00774"
                "000000157463703a2f2f31302e37372e302e323a343130333000000258"
            ),
        );
    }

    #[test]
    fn bytes_after_the_last_field_are_ignored() {
        assert_eq!(Message::decode(Bytes::from_static(&hex!("aaa00301ff"))), Ok(Message::Ping));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        for (frame, error) in [
            (&hex!("")[..], DecodeError::Cut { field: "signature" }),
            (&hex!("aa"), DecodeError::Cut { field: "signature" }),
            (&hex!("aaa1"), DecodeError::Signature { signature: 0xaaa1 }),
            (&hex!("aaa0"), DecodeError::Cut { field: "id" }),
            (&hex!("aaa001"), DecodeError::Cut { field: "version" }),
            (&hex!("aaa00102"), DecodeError::Version { version: 2 }),
            (&hex!("aaa00001"), DecodeError::UnknownId { id: 0 }),
            (&hex!("aaa00601"), DecodeError::UnknownId { id: 6 }),
            (&hex!("aaa00201"), DecodeError::Cut { field: "key" }),
            (&hex!("aaa002010261"), DecodeError::Cut { field: "key" }),
            (&hex!("aaa002010161000000"), DecodeError::Cut { field: "length of the value" }),
            (&hex!("aaa00201016100000002ff"), DecodeError::Cut { field: "value" }),
            (&hex!("aaa00201016100000001ff000000"), DecodeError::Cut { field: "ttl" }),
            (
                &hex!("aaa002010161ffffffff"),
                DecodeError::Limit(TooLong { field: "value", len: 0xffff_ffff, max: VALUE_MAX }),
            ),
        ] {
            assert_eq!(Message::decode(Bytes::copy_from_slice(frame)), Err(error), "{frame:02x?}");
        }
    }

    #[test]
    fn the_limits_are_the_last_lengths_that_are_taken() {
        let longest = publish(&[b'k'; KEY_MAX], &"v".repeat(VALUE_MAX), u32::MAX);
        assert_eq!(Message::decode(longest.encode().unwrap()), Ok(longest));
        let key = publish(&[b'k'; KEY_MAX + 1], "", 0).encode();
        assert_eq!(key, Err(TooLong { field: "key", len: KEY_MAX + 1, max: KEY_MAX }));
        let value = publish(b"k", &"v".repeat(VALUE_MAX + 1), 0).encode();
        assert_eq!(value, Err(TooLong { field: "value", len: VALUE_MAX + 1, max: VALUE_MAX }));
    }

    prop_compose! {
        fn any_message()(
            id in 1_u8..=5, key in prop::collection::vec(any::<u8>(), 0..=KEY_MAX),
            value in prop::collection::vec(any::<u8>(), 0..400), ttl in any::<u32>(),
        ) -> Message {
            match id {
                1 => Message::Hello,
                2 => Message::Publish(Publish { key: key.into(), value: Bytes::from(value).into(), ttl }),
                3 => Message::Ping,
                4 => Message::Pong,
                _ => Message::Invalid,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_alike(message in any_message()) {
            let frame = message.encode().unwrap();
            prop_assert_eq!(frame.len(), message.encoded_len());
            prop_assert_eq!(Message::decode(frame), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64), is_signed in any::<bool>(), id in 0_u8..7,
        ) {
            let header: &[u8] = if is_signed { &[0xaa, 0xa0, id, 1] } else { &[] };
            let frame = Bytes::from([header, &bytes].concat());
            if let Ok(message) = Message::decode(frame.clone()) {
                let again = message.encode().unwrap();
                prop_assert_eq!(&again[..], &frame[..again.len()]);
            }
        }

        #[test]
        fn a_message_that_is_cut_is_refused(message in any_message(), place in any::<prop::sample::Index>()) {
            let frame = message.encode().unwrap();
            prop_assert!(Message::decode(frame.slice(..place.index(frame.len()))).is_err());
        }

        #[test]
        fn a_message_with_a_wrong_byte_is_read_without_a_panic(
            message in any_message(), place in any::<prop::sample::Index>(), by in 1_u8..,
        ) {
            let mut frame = message.encode().unwrap().to_vec();
            let place = place.index(frame.len());
            frame[place] ^= by;
            let _ = Message::decode(frame.into());
        }
    }
}
