//! The messages of the original RelayServer, byte for byte: hello, response, OPEN and DROP.
//!
//! A message is a length of four bytes, big-endian, and a protocol buffer (proto2). Which message it is follows from the
//! port and the direction. Fields are written in the order of their numbers, zeros too. There is nothing else: clients
//! have no protocol, and a data connection carries a session's bytes as they are once its hello was answered.
//!
//! It decides nothing, and knows no sockets.

use bytes::{BufMut, Bytes, BytesMut};

/// The version that both sides of the original write. Neither checks it.
pub const VERSION: i32 = 1;

/// The longest message that is read. The longest that makes sense is a response with a host name, some 270 bytes; the
/// original has no limit.
pub const FRAME_BYTES_MAX: usize = 1024;

/// A host process introduces a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`].
    pub version: i32,
}

/// The relay's answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The number of the data connection, counted from 0.
    pub session: i32,
    /// The relay's own address.
    pub relay_host: String,
    /// The port for clients in decimal. The original host process can't read anything else.
    pub relay_port: String,
}

/// What the relay tells on the command channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// A client was given this data connection.
    Open(i32),
    /// The session on this data connection is over.
    Drop(i32),
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A length over [`FRAME_BYTES_MAX`].
    #[error("a message of {len} bytes is longer than the {max} that are read", max = FRAME_BYTES_MAX)]
    TooLong {
        /// The length that was announced.
        len: usize,
    },
    /// The message ends inside a field, or has a field that no protocol buffer can have.
    #[error("the message is no protocol buffer")]
    Malformed,
    /// A required field is not there.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// An announcement of another kind than OPEN and DROP.
    #[error("unknown kind of announcement {0}")]
    UnknownKind(i32),
}

impl Hello {
    /// The message with its length.
    pub fn encode(self) -> Bytes {
        framed(|body| int32(body, 1, self.version))
    }

    /// Reads a message without its length.
    ///
    /// # Errors
    /// When it is no hello.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut version = None;
        fields(body, |number, value| {
            if let (1, Field::Varint(value)) = (number, value) {
                version = Some(value as i32);
            }
        })?;
        Ok(Self { version: version.ok_or(DecodeError::Missing("version"))? })
    }
}

impl Response {
    /// The message with its length.
    pub fn encode(&self) -> Bytes {
        framed(|body| {
            int32(body, 1, self.session);
            bytes(body, 2, self.relay_host.as_bytes());
            bytes(body, 3, self.relay_port.as_bytes());
        })
    }

    /// Reads a message without its length.
    ///
    /// # Errors
    /// When it is no response.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let (mut session, mut host, mut port) = (None, None, None);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields(body, |number, value| match (number, value) {
            (1, Field::Varint(value)) => session = Some(value as i32),
            (2, Field::Bytes(value)) => host = Some(text(value)),
            (3, Field::Bytes(value)) => port = Some(text(value)),
            _ => {}
        })?;
        Ok(Self {
            session: session.ok_or(DecodeError::Missing("session_id"))?,
            relay_host: host.ok_or(DecodeError::Missing("relay_host"))?,
            relay_port: port.ok_or(DecodeError::Missing("relay_port"))?,
        })
    }
}

impl Announcement {
    /// The number of the data connection that it is about.
    pub const fn session(self) -> i32 {
        match self {
            Self::Open(session) | Self::Drop(session) => session,
        }
    }

    /// The message with its length.
    pub fn encode(self) -> Bytes {
        let (kind, field) = match self {
            Self::Open(_) => (0, 3),
            Self::Drop(_) => (1, 4),
        };
        let mut inner = BytesMut::new();
        int32(&mut inner, 1, self.session());
        framed(|body| {
            int32(body, 1, VERSION);
            int32(body, 2, kind);
            bytes(body, field, &inner);
        })
    }

    /// Reads a message without its length.
    ///
    /// # Errors
    /// When it is no announcement.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let (mut kind, mut parts) = (None, [None, None]);
        fields(body, |number, value| match (number, value) {
            (2, Field::Varint(value)) => kind = Some(value as i32),
            (3 | 4, Field::Bytes(value)) => parts[(number - 3) as usize] = Some(value.to_vec()),
            _ => {}
        })?;
        let session = |part: &Option<Vec<u8>>, name| {
            let mut session = None;
            fields(part.as_deref().ok_or(DecodeError::Missing(name))?, |number, value| {
                if let (1, Field::Varint(value)) = (number, value) {
                    session = Some(value as i32);
                }
            })?;
            session.ok_or(DecodeError::Missing("session"))
        };
        match kind.ok_or(DecodeError::Missing("message_type"))? {
            0 => session(&parts[0], "open").map(Self::Open),
            1 => session(&parts[1], "drop").map(Self::Drop),
            kind => Err(DecodeError::UnknownKind(kind)),
        }
    }
}

/// Cuts a stream of bytes into messages. It holds one message and what came after it in one piece, nothing more.
#[derive(Debug, Default)]
pub struct Framer(BytesMut);

impl Framer {
    /// Takes bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message without its length; `None` when it is not complete.
    ///
    /// # Errors
    /// When it is too long. Nothing after that can be read.
    pub fn take(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(head) = self.0.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*head) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(DecodeError::TooLong { len });
        }
        if self.0.len() < 4 + len {
            return Ok(None);
        }
        Ok(Some(self.0.split_to(4 + len).freeze().slice(4..)))
    }

    /// What came after the last message.
    pub fn rest(self) -> Bytes {
        self.0.freeze()
    }
}

/// The value of a field, as far as its type on the wire tells.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a type that no message here has.
    Other,
}

/// Calls `found` with each field and its number. Of a field that is there twice the last one counts, as protocol buffers have it.
fn fields<'a>(mut body: &'a [u8], mut found: impl FnMut(u64, Field<'a>)) -> Result<(), DecodeError> {
    while !body.is_empty() {
        let key = varint(&mut body)?;
        let mut take = |len: usize| {
            let taken = body.split_at_checked(len).ok_or(DecodeError::Malformed)?;
            body = taken.1;
            Ok(taken.0)
        };
        let value = match key & 7 {
            0 => Field::Varint(varint(&mut body)?),
            1 => take(8).map(|_| Field::Other)?,
            2 => {
                let len = varint(&mut body)?;
                let len = usize::try_from(len).map_err(|_| DecodeError::Malformed)?;
                let taken = body.split_at_checked(len).ok_or(DecodeError::Malformed)?;
                body = taken.1;
                Field::Bytes(taken.0)
            }
            5 => take(4).map(|_| Field::Other)?,
            _ => return Err(DecodeError::Malformed),
        };
        if key >> 3 == 0 {
            return Err(DecodeError::Malformed);
        }
        found(key >> 3, value);
    }
    Ok(())
}

fn varint(body: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = body.split_first().ok_or(DecodeError::Malformed)?;
        *body = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Malformed)
}

fn put_varint(body: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        body.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    body.put_u8(value as u8);
}

fn int32(body: &mut BytesMut, number: u8, value: i32) {
    body.put_u8(number << 3);
    // Negative numbers have ten bytes.
    put_varint(body, i64::from(value) as u64);
}

fn bytes(body: &mut BytesMut, number: u8, value: &[u8]) {
    body.put_u8(number << 3 | 2);
    put_varint(body, value.len() as u64);
    body.put_slice(value);
}

fn framed(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut body = BytesMut::new();
    write(&mut body);
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_u32(body.len() as u32);
    frame.put(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn response(session: i32) -> Response {
        Response { session, relay_host: "127.0.0.1".to_owned(), relay_port: "8002".to_owned() }
    }

    #[test]
    fn messages_are_the_bytes_that_the_original_sent() {
        assert_eq!(Hello { version: 1 }.encode()[..], hex!("00000002 0801"));
        assert_eq!(response(0).encode()[..], hex!("00000013 0800 1209 3132372e302e302e31 1a04 38303032"));
        assert_eq!(response(131).encode()[..], hex!("00000014 088301 1209 3132372e302e302e31 1a04 38303032"));
        assert_eq!(Announcement::Open(0).encode()[..], hex!("00000008 0801 1000 1a02 0800"));
        assert_eq!(Announcement::Open(131).encode()[..], hex!("00000009 0801 1000 1a03 088301"));
        assert_eq!(Announcement::Drop(0).encode()[..], hex!("00000008 0801 1001 2202 0800"));
    }

    #[test]
    fn required_fields_are_required_and_others_are_skipped() {
        assert_eq!(Hello::decode(b""), Err(DecodeError::Missing("version")));
        assert_eq!(Hello::decode(&hex!("12 01 41 0801 3d 00000000 41 0000000000000000")).unwrap().version, 1);
        assert_eq!(Announcement::decode(&hex!("0801 1002")), Err(DecodeError::UnknownKind(2)));
        assert_eq!(Announcement::decode(&hex!("0801 1000 2202 0800")), Err(DecodeError::Missing("open")));
        assert_eq!(Hello::decode(&hex!("08")), Err(DecodeError::Malformed));
        assert_eq!(Hello::decode(&hex!("0b")), Err(DecodeError::Malformed));
        assert_eq!(Hello::decode(&hex!("08 ffffffffffffffffffff 01")), Err(DecodeError::Malformed));
    }

    #[test]
    fn a_message_may_have_1024_bytes_and_no_more() {
        let mut framer = Framer::default();
        framer.push(&1024_u32.to_be_bytes());
        assert_eq!(framer.take(), Ok(None));
        framer.push(&[0; 1024]);
        assert_eq!(framer.take().unwrap().unwrap().len(), 1024);
        framer.push(&1025_u32.to_be_bytes());
        assert_eq!(framer.take(), Err(DecodeError::TooLong { len: 1025 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_any_pieces(
            sessions in proptest::collection::vec(any::<i32>(), 1..8), cut in 1..20_usize,
        ) {
            let stream: Vec<u8> = sessions.iter().flat_map(|session| {
                [Announcement::Open(*session).encode(), Announcement::Drop(*session).encode()].concat()
            }).collect();
            let mut framer = Framer::default();
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                framer.push(piece);
                while let Some(body) = framer.take().unwrap() {
                    read.push(Announcement::decode(&body).unwrap());
                }
            }
            let sent = sessions.iter().flat_map(|session| [Announcement::Open(*session), Announcement::Drop(*session)]);
            prop_assert_eq!(read, sent.collect::<Vec<_>>());
            let first = response(sessions[0]);
            prop_assert_eq!(Response::decode(&first.encode()[4..]), Ok(first.clone()));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Hello::decode(&bytes), Response::decode(&bytes), Announcement::decode(&bytes));
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(_)) = framer.take() {}
        }
    }
}
