//! Commands: what the two ends of a connection say to each other rather than to their users (RFC 37, "Commands").
//!
//! A command is the body of a frame: a name with its length before it, then data. READY here is the NULL mechanism's;
//! CURVE's command of the same name is encrypted, and only [`Command::split`] is of use for it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Cut, Reader};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The sender is ready for messages.
    Ready(Properties),
    /// The sender refuses the connection and closes it.
    Error {
        /// Why; libzmq writes the three digits of a ZAP status.
        reason: Bytes,
    },
    /// The sender wants a sign of life.
    Ping {
        /// Without traffic for so long, in tenths of a second, the sender may be taken for dead. 0 says nothing.
        ttl: u16,
        /// To be sent back.
        context: Bytes,
    },
    /// The answer to a PING.
    Pong {
        /// What the PING carried.
        context: Bytes,
    },
    /// Any other.
    Other {
        /// Its name.
        name: Bytes,
        /// What follows the name.
        data: Bytes,
    },
}

/// Facts about a socket, in the order they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(Bytes, Bytes)>);

/// Why the body of a command makes no sense. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It ends inside a field.
    #[error("a command ends inside its {field}")]
    Cut {
        /// Which field.
        field: &'static str,
    },
}

impl From<Cut> for CommandError {
    fn from(Cut { field }: Cut) -> Self {
        Self::Cut { field }
    }
}

const READY: &[u8] = b"READY";
const ERROR: &[u8] = b"ERROR";
const PING: &[u8] = b"PING";
const PONG: &[u8] = b"PONG";

impl Command {
    /// A PING carries at most this many bytes to be sent back (RFC 37, "Heartbeats"); libzmq cuts off the rest.
    pub const CONTEXT_MAX: usize = 16;

    /// Its name.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Ready(_) => READY,
            Self::Error { .. } => ERROR,
            Self::Ping { .. } => PING,
            Self::Pong { .. } => PONG,
            Self::Other { name, .. } => name,
        }
    }

    /// The body of a command frame.
    ///
    /// # Panics
    /// With a name, reason or property name of more than 255 bytes. None that was decoded is so long.
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        put_short(&mut to, self.name());
        match self {
            Self::Ready(properties) => {
                for (name, value) in &properties.0 {
                    put_short(&mut to, name);
                    to.put_u32(u32::try_from(value.len()).expect("properties are short"));
                    to.put_slice(value);
                }
            }
            Self::Error { reason } => put_short(&mut to, reason),
            Self::Ping { ttl, context } => {
                to.put_u16(*ttl);
                to.put_slice(context);
            }
            Self::Pong { context: data } | Self::Other { data, .. } => to.put_slice(data),
        }
        to.freeze()
    }

    /// Reads the body of a command frame.
    ///
    /// # Errors
    /// When it ends inside a field.
    pub fn decode(body: Bytes) -> Result<Self, CommandError> {
        let (name, data) = Self::split(body)?;
        let mut reader = Reader::new(data);
        Ok(match &name[..] {
            READY => Self::Ready(Properties::decode(reader)?),
            ERROR => Self::Error { reason: reader.short("reason")? },
            PING => Self::Ping { ttl: reader.u16("ttl")?, context: reader.rest() },
            PONG => Self::Pong { context: reader.rest() },
            _ => Self::Other { name, data: reader.rest() },
        })
    }

    /// Splits the body of a command frame into the name and the data after it.
    ///
    /// # Errors
    /// When it ends inside the name.
    pub fn split(body: Bytes) -> Result<(Bytes, Bytes), CommandError> {
        let mut reader = Reader::new(body);
        Ok((reader.short("name")?, reader.rest()))
    }
}

impl Properties {
    /// Name of the property that tells the kind of the socket. libzmq compares names byte by byte.
    pub const SOCKET_TYPE: &'static str = "Socket-Type";
    /// Name of the property that tells the identity of the socket.
    pub const IDENTITY: &'static str = "Identity";

    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a property.
    pub fn push(&mut self, name: &'static str, value: Bytes) {
        self.0.push((Bytes::from_static(name.as_bytes()), value));
    }

    /// The value of a property, the last one when there are several. Case does not matter in names (RFC 37).
    pub fn find(&self, name: &str) -> Option<&Bytes> {
        self.iter().rev().find(|(have, _)| have.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// All of them, names and values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &(Bytes, Bytes)> {
        self.0.iter()
    }

    fn decode(mut reader: Reader) -> Result<Self, CommandError> {
        let mut properties = Vec::new();
        while !reader.is_empty() {
            let name = reader.short("property name")?;
            let len = reader.u32("property value")?;
            properties.push((name, reader.take(len as usize, "property value")?));
        }
        Ok(Self(properties))
    }
}

fn put_short(to: &mut BytesMut, bytes: &[u8]) {
    to.put_u8(u8::try_from(bytes.len()).expect("names and reasons have at most 255 bytes"));
    to.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn ready(socket_type: &'static str, identity: &'static [u8]) -> Command {
        let mut properties = Properties::new();
        properties.push(Properties::SOCKET_TYPE, socket_type.into());
        properties.push(Properties::IDENTITY, identity.into());
        Command::Ready(properties)
    }

    #[test]
    fn commands_lie_in_their_frames_as_libzmq_writes_them() {
        let identity = &hex!("01 c7446d35e1384f10bb67f58f903d0b85");
        for (command, golden) in [
            // libzmq 4.3.5, capture zyre-zyre.
            (
                ready("DEALER", identity),
                &hex!(
                    "05 5245414459 0b 536f636b65742d54797065 00000006 4445414c4552"
                    "08 4964656e74697479 00000011 01 c7446d35e1384f10bb67f58f903d0b85"
                )[..],
            ),
            (
                ready("ROUTER", b""),
                &hex!(
                    "05 5245414459 0b 536f636b65742d54797065 00000006 524f55544552"
                    "08 4964656e74697479 00000000"
                ),
            ),
            // RFC 37's layout, and libzmq's reason for a refused client.
            (Command::Error { reason: "400".into() }, &hex!("05 4552524f52 03 343030")),
            (Command::Ping { ttl: 300, context: "ctx".into() }, &hex!("04 50494e47 012c 637478")),
            (Command::Pong { context: "ctx".into() }, &hex!("04 504f4e47 637478")),
            (
                Command::Other { name: "SUBSCRIBE".into(), data: "AB".into() },
                &hex!("09 535542534352494245 4142"),
            ),
        ] {
            assert_eq!(command.encode(), golden);
            assert_eq!(Command::decode(Bytes::copy_from_slice(golden)), Ok(command));
        }
    }

    #[test]
    fn names_of_properties_are_found_in_any_case_and_the_last_one_counts() {
        let mut properties = Properties::new();
        properties.push("IDENTITY", "first".into());
        properties.push("identity", "second".into());
        assert_eq!(properties.find(Properties::IDENTITY).unwrap(), "second");
        assert_eq!(properties.find(Properties::SOCKET_TYPE), None);
        assert_eq!(properties.iter().count(), 2);
    }

    #[test]
    fn a_cut_command_is_refused_with_the_field_that_is_cut() {
        for (body, field) in [
            (&b""[..], "name"),
            (b"\x05READ", "name"),
            (b"\x05READY\x03ab", "property name"),
            (b"\x05READY\x01a\0\0\0", "property value"),
            (b"\x05READY\x01a\0\0\0\x02x", "property value"),
            (b"\x05READY\x01a\xff\xff\xff\xffx", "property value"),
            (b"\x05ERROR\x03no", "reason"),
            (b"\x04PING\0", "ttl"),
        ] {
            assert_eq!(
                Command::decode(Bytes::from_static(body)),
                Err(CommandError::Cut { field }),
                "{body:?}"
            );
        }
    }

    fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
    }

    fn any_command() -> impl Strategy<Value = Command> {
        prop_oneof![
            proptest::collection::vec((any_bytes(255), any_bytes(300)), 0..4)
                .prop_map(|properties| Command::Ready(Properties(properties))),
            any_bytes(255).prop_map(|reason| Command::Error { reason }),
            (any::<u16>(), any_bytes(16)).prop_map(|(ttl, context)| Command::Ping { ttl, context }),
            any_bytes(16).prop_map(|context| Command::Pong { context }),
            (any_bytes(3), any_bytes(40)).prop_map(|(name, data)| Command::Other { name, data }),
        ]
    }

    proptest! {
        #[test]
        fn every_command_comes_back(command in any_command()) {
            prop_assert_eq!(Command::decode(command.encode()), Ok(command));
        }

        #[test]
        fn no_command_is_a_panic(
            bytes in any_bytes(64), command in any_command(), cut: prop::sample::Index, flip: u8
        ) {
            let _ = Command::decode(bytes);
            let mut broken = command.encode().to_vec();
            let at = cut.index(broken.len());
            broken[at] ^= flip;
            let _ = Command::decode(broken.clone().into());
            broken.truncate(at);
            let _ = Command::decode(broken.into());
        }
    }
}
