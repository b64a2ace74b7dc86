//! ZRE messages: what nodes say to each other over ZMTP (RFC 36, "Protocol Signature" on, and zyre's `zre_msg`).
//!
//! ```text
//! first frame    0xaa 0xa1   id   version (2)   sequence, 2 bytes   fields of the command
//! further frames content, of WHISPER and SHOUT only
//!
//! string   length in 1 byte, bytes       strings      count in 4 bytes, long strings
//! long     length in 4 bytes, bytes      dictionary   count in 4 bytes, (string, long string) each
//! ```
//!
//! All numbers are big-endian. Reading is as lenient as zyre where peers differ (bytes after the last field, frames that a
//! command does not have, content without frames), and strict where zyre is careless: a field that is cut is an error.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Headers, Text};
use crate::codec::{Cut, Reader};
use crate::zmtp::{Limits, Multipart};

/// The longest group, name, header key or endpoint: the format gives their lengths one byte. HELLO alone gives groups
/// four, but no other command could name a longer one.
pub const TEXT_MAX: usize = u8::MAX as usize;
/// The longest first frame. A HELLO is held as long as its peer, so this is what one peer costs; zyre has no limit.
pub const HEADER_FRAME_MAX: usize = 64 << 10;
/// The most groups in a HELLO. Each is an entry in our tables; real nodes are in a handful.
pub const GROUPS_MAX: usize = 1024;
/// The most headers in a HELLO. Each is an entry in a table; real nodes have a handful.
pub const HEADERS_MAX: usize = 256;
/// The longest value of a header: room for a document or a certificate, but not for all of a HELLO.
pub const HEADER_VALUE_MAX: usize = 16 << 10;
/// The most frames of content: what a session takes by default, after the first frame.
pub const CONTENT_FRAMES_MAX: usize = Limits::DEFAULT.frames - 1;
/// The most bytes in all frames together: what a session takes by default.
pub const MESSAGE_BYTES_MAX: usize = Limits::DEFAULT.message_bytes;

/// A message, with its number in the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// HELLO is 1, and each message to the same peer is one more, modulo 65536.
    pub sequence: u16,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The sender introduces itself. Always first.
    Hello(Hello),
    /// A message to one node.
    Whisper {
        /// Its frames. None is sent as one empty frame, and received as one: peers trip over none.
        content: Vec<Bytes>,
    },
    /// A message to a group.
    Shout {
        /// The group.
        group: Text,
        /// Its frames, as in [`Body::Whisper`].
        content: Vec<Bytes>,
    },
    /// The sender joined a group.
    Join {
        /// The group.
        group: Text,
        /// The sender's count of joins and leaves, modulo 256, this one included.
        status: u8,
    },
    /// The sender left a group.
    Leave {
        /// The group.
        group: Text,
        /// As in [`Body::Join`].
        status: u8,
    },
    /// The sender wants a sign of life.
    Ping,
    /// The answer to PING.
    PingOk,
    /// The sender proposes a leader for a group (zyre only).
    Elect {
        /// The group.
        group: Text,
        /// The identity that is proposed, 32 upper-case hexadecimal digits.
        challenger: Text,
    },
    /// A leader was elected (zyre only).
    Leader {
        /// The group.
        group: Text,
        /// The identity that won, 32 upper-case hexadecimal digits.
        leader: Text,
    },
    /// The sender leaves (zyre only, and only when it was found by gossip).
    Goodbye,
}

/// What a node tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Where its inbox is, as a ZeroMQ endpoint. It may be a host name, or of no use at all.
    pub endpoint: Text,
    /// The groups it is in.
    pub groups: Vec<Text>,
    /// Its count of joins and leaves so far, modulo 256.
    pub status: u8,
    /// Its name.
    pub name: Text,
    /// Facts about it. When a key comes twice, the last value counts.
    pub headers: Headers,
}

/// Why a message can't be sent, or is not taken: it is over a limit of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Something is too long.
    #[error("the {field} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// What.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// There are too many of something.
    #[error("there are {count} {field}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        field: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
}

/// Why a message can't be sent. The caller is to blame.
pub type EncodeError = LimitError;

/// Why frames are not a message that we understand. The peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first frame is missing, or too short for a header.
    #[error("a first frame of {len} bytes, the header alone has {}", Body::HEADER_LEN)]
    Header {
        /// Its length in bytes.
        len: usize,
    },
    /// It is not a ZRE message.
    #[error("the signature is {signature:#06x}, that of ZRE is {:#06x}", Body::SIGNATURE)]
    Signature {
        /// The first two bytes.
        signature: u16,
    },
    /// Another version of ZRE.
    #[error("message version {version}, only version {} is spoken", Body::VERSION)]
    Version {
        /// Which.
        version: u8,
    },
    /// A command that we do not know. It takes a number all the same: whoever counts has to count it.
    #[error("message {sequence} has the unknown id {id}")]
    UnknownId {
        /// The id.
        id: u8,
        /// Its number.
        sequence: u16,
    },
    /// A command that we know, but its fields make no sense.
    #[error("message {sequence} (id {id}) is malformed: {fault}")]
    Malformed {
        /// The id.
        id: u8,
        /// Its number.
        sequence: u16,
        /// What is wrong.
        #[source]
        fault: Fault,
    },
}

/// What is wrong with the fields of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The frame ends inside a field.
    #[error("it ends inside the {field}")]
    Cut {
        /// Which field.
        field: &'static str,
    },
    /// Something is over a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl From<Cut> for Fault {
    fn from(Cut { field }: Cut) -> Self {
        Self::Cut { field }
    }
}

// Names of fields, in errors.
const ENDPOINT: &str = "endpoint";
const GROUP: &str = "group";
const GROUPS: &str = "groups";
const STATUS: &str = "status";
const NAME: &str = "name";
const HEADERS: &str = "headers";
const KEY: &str = "header key";
const VALUE: &str = "header value";
const CHALLENGER: &str = "challenger";
const LEADER: &str = "leader";

impl Message {
    /// The frames of the message; content is shared, not copied.
    ///
    /// # Errors
    /// When something is over a limit.
    pub fn encode(&self) -> Result<Multipart, EncodeError> {
        self.body.encode(self.sequence)
    }

    /// Reads a message. Text and content are slices of the frames.
    ///
    /// # Errors
    /// When the frames are not a message of this protocol, or it is over a limit.
    pub fn decode(frames: Multipart) -> Result<Self, DecodeError> {
        let mut frames = frames.into_iter();
        let mut reader = Reader::new(frames.next().unwrap_or_default());
        let len = reader.len();
        let header = |_| DecodeError::Header { len };
        let signature = reader.u16("signature").map_err(header)?;
        if signature != Body::SIGNATURE {
            return Err(DecodeError::Signature { signature });
        }
        let id = reader.u8("id").map_err(header)?;
        let version = reader.u8("version").map_err(header)?;
        let sequence = reader.u16("sequence").map_err(header)?;
        if version != Body::VERSION {
            return Err(DecodeError::Version { version });
        }
        let body = Body::decode(id, reader, len, frames.collect());
        match body {
            Ok(Some(body)) => Ok(Self { sequence, body }),
            Ok(None) => Err(DecodeError::UnknownId { id, sequence }),
            Err(fault) => Err(DecodeError::Malformed { id, sequence, fault }),
        }
    }
}

impl Body {
    const SIGNATURE: u16 = 0xaaa1;
    /// zyre keeps to 2 for secured nodes too, though RFC 43 has 3.
    const VERSION: u8 = 2;
    const HEADER_LEN: usize = 6;

    const HELLO: u8 = 1;
    const WHISPER: u8 = 2;
    const SHOUT: u8 = 3;
    const JOIN: u8 = 4;
    const LEAVE: u8 = 5;
    const PING: u8 = 6;
    const PING_OK: u8 = 7;
    const ELECT: u8 = 8;
    const LEADER: u8 = 9;
    const GOODBYE: u8 = 10;

    /// The command's number on the wire.
    pub const fn id(&self) -> u8 {
        match self {
            Self::Hello(_) => Self::HELLO,
            Self::Whisper { .. } => Self::WHISPER,
            Self::Shout { .. } => Self::SHOUT,
            Self::Join { .. } => Self::JOIN,
            Self::Leave { .. } => Self::LEAVE,
            Self::Ping => Self::PING,
            Self::PingOk => Self::PING_OK,
            Self::Elect { .. } => Self::ELECT,
            Self::Leader { .. } => Self::LEADER,
            Self::Goodbye => Self::GOODBYE,
        }
    }

    /// The frames of a message with this body and number. One body can be sent to many peers: each gets a first frame of
    /// its own and shares the content.
    ///
    /// # Errors
    /// When something is over a limit.
    pub fn encode(&self, sequence: u16) -> Result<Multipart, EncodeError> {
        let first = self.encode_first(sequence)?;
        let content = match self {
            Self::Whisper { content } | Self::Shout { content, .. } => &content[..],
            _ => return Ok(vec![first]),
        };
        check_content(first.len(), content)?;
        let mut frames = Vec::with_capacity(1 + content.len().max(1));
        frames.push(first);
        frames.extend_from_slice(content);
        if content.is_empty() {
            frames.push(Bytes::new());
        }
        Ok(frames)
    }

    /// The first frame of a message with this body and number.
    ///
    /// # Errors
    /// When something in it is over a limit.
    pub fn encode_first(&self, sequence: u16) -> Result<Bytes, EncodeError> {
        let len = self.first_len();
        check_len("first frame", len, HEADER_FRAME_MAX)?;
        let mut to = BytesMut::with_capacity(len);
        to.put_u16(Self::SIGNATURE);
        to.put_u8(self.id());
        to.put_u8(Self::VERSION);
        to.put_u16(sequence);
        match self {
            Self::Hello(hello) => hello.put(&mut to)?,
            Self::Shout { group, .. } => put_short(&mut to, GROUP, group)?,
            Self::Join { group, status } | Self::Leave { group, status } => {
                put_short(&mut to, GROUP, group)?;
                to.put_u8(*status);
            }
            Self::Elect { group, challenger: id } => {
                put_short(&mut to, GROUP, group)?;
                put_short(&mut to, CHALLENGER, id)?;
            }
            Self::Leader { group, leader: id } => {
                put_short(&mut to, GROUP, group)?;
                put_short(&mut to, LEADER, id)?;
            }
            Self::Whisper { .. } | Self::Ping | Self::PingOk | Self::Goodbye => {}
        }
        Ok(to.freeze())
    }

    /// Length of the first frame in bytes.
    pub fn first_len(&self) -> usize {
        Self::HEADER_LEN
            + match self {
                Self::Hello(hello) => hello.len(),
                Self::Shout { group, .. } => 1 + group.len(),
                Self::Join { group, .. } | Self::Leave { group, .. } => 1 + group.len() + 1,
                Self::Elect { group, challenger: id } | Self::Leader { group, leader: id } => {
                    1 + group.len() + 1 + id.len()
                }
                Self::Whisper { .. } | Self::Ping | Self::PingOk | Self::Goodbye => 0,
            }
    }

    /// Reads the fields of a command; `None` for an unknown one. What is left of the frame is ignored, as in zyre.
    fn decode(
        id: u8,
        mut fields: Reader,
        first_len: usize,
        further: Vec<Bytes>,
    ) -> Result<Option<Self>, Fault> {
        check_len("first frame", first_len, HEADER_FRAME_MAX)?;
        let content = |further: Vec<Bytes>| -> Result<Vec<Bytes>, LimitError> {
            check_content(first_len, &further)?;
            Ok(if further.is_empty() { vec![Bytes::new()] } else { further })
        };
        Ok(Some(match id {
            Self::HELLO => Self::Hello(Hello::read(&mut fields)?),
            Self::WHISPER => Self::Whisper { content: content(further)? },
            Self::SHOUT => Self::Shout { group: fields.short(GROUP)?.into(), content: content(further)? },
            Self::JOIN => Self::Join { group: fields.short(GROUP)?.into(), status: fields.u8(STATUS)? },
            Self::LEAVE => Self::Leave { group: fields.short(GROUP)?.into(), status: fields.u8(STATUS)? },
            Self::PING => Self::Ping,
            Self::PING_OK => Self::PingOk,
            Self::ELECT => Self::Elect {
                group: fields.short(GROUP)?.into(),
                challenger: fields.short(CHALLENGER)?.into(),
            },
            Self::LEADER => {
                Self::Leader { group: fields.short(GROUP)?.into(), leader: fields.short(LEADER)?.into() }
            }
            Self::GOODBYE => Self::Goodbye,
            _ => return Ok(None),
        }))
    }
}

impl Hello {
    fn len(&self) -> usize {
        let groups: usize = self.groups.iter().map(|group| 4 + group.len()).sum();
        let headers: usize = self.headers.iter().map(|(key, value)| 1 + key.len() + 4 + value.len()).sum();
        1 + self.endpoint.len() + 4 + groups + 1 + 1 + self.name.len() + 4 + headers
    }

    fn put(&self, to: &mut BytesMut) -> Result<(), LimitError> {
        put_short(to, ENDPOINT, &self.endpoint)?;
        put_count(to, GROUPS, self.groups.len(), GROUPS_MAX)?;
        for group in &self.groups {
            put_long(to, GROUP, group, TEXT_MAX)?;
        }
        to.put_u8(self.status);
        put_short(to, NAME, &self.name)?;
        put_count(to, HEADERS, self.headers.len(), HEADERS_MAX)?;
        for (key, value) in &self.headers {
            put_short(to, KEY, key)?;
            put_long(to, VALUE, value, HEADER_VALUE_MAX)?;
        }
        Ok(())
    }

    fn read(from: &mut Reader) -> Result<Self, Fault> {
        let endpoint = from.short(ENDPOINT)?.into();
        let mut groups = Vec::new();
        for _ in 0..read_count(from, GROUPS, GROUPS_MAX)? {
            groups.push(read_long(from, GROUP, TEXT_MAX)?);
        }
        let status = from.u8(STATUS)?;
        let name = from.short(NAME)?.into();
        let mut headers = Headers::new();
        for _ in 0..read_count(from, HEADERS, HEADERS_MAX)? {
            let key = from.short(KEY)?.into();
            headers.insert(key, read_long(from, VALUE, HEADER_VALUE_MAX)?);
        }
        Ok(Self { endpoint, groups, status, name, headers })
    }
}

const fn check_len(field: &'static str, len: usize, max: usize) -> Result<(), LimitError> {
    if len > max { Err(LimitError::TooLong { field, len, max }) } else { Ok(()) }
}

const fn check_count(field: &'static str, count: usize, max: usize) -> Result<(), LimitError> {
    if count > max { Err(LimitError::TooMany { field, count, max }) } else { Ok(()) }
}

fn check_content(first_len: usize, content: &[Bytes]) -> Result<(), LimitError> {
    check_count("frames of content", content.len(), CONTENT_FRAMES_MAX)?;
    let len = content.iter().map(Bytes::len).fold(first_len, usize::saturating_add);
    check_len("message", len, MESSAGE_BYTES_MAX)
}

fn put_short(to: &mut BytesMut, field: &'static str, text: &Text) -> Result<(), LimitError> {
    check_len(field, text.len(), TEXT_MAX)?;
    to.put_u8(text.len() as u8);
    to.put_slice(text.as_bytes());
    Ok(())
}

fn put_long(to: &mut BytesMut, field: &'static str, text: &Text, max: usize) -> Result<(), LimitError> {
    check_len(field, text.len(), max)?;
    to.put_u32(text.len() as u32);
    to.put_slice(text.as_bytes());
    Ok(())
}

fn put_count(to: &mut BytesMut, field: &'static str, count: usize, max: usize) -> Result<(), LimitError> {
    check_count(field, count, max)?;
    to.put_u32(count as u32);
    Ok(())
}

fn read_long(from: &mut Reader, field: &'static str, max: usize) -> Result<Text, Fault> {
    let len = from.u32(field)? as usize;
    check_len(field, len, max)?;
    Ok(from.take(len, field)?.into())
}

fn read_count(from: &mut Reader, field: &'static str, max: usize) -> Result<usize, Fault> {
    let count = from.u32(field)? as usize;
    check_count(field, count, max)?;
    Ok(count)
}

#[cfg(test)]
mod tests;
