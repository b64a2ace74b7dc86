//! What a host and a relay say to each other before and beside the sessions: the modern protocol's own messages.
//!
//! A host opens connections to the relay's port for hosts; each starts with [`PREAMBLE`], which the original protocol takes
//! for an impossible length. Then
//!
//! * a *control* connection: `Hello`, `Challenge`, `Proof`, `Welcome`, in turns, and from then on `Want`, `Ping` and `Crowd`
//!   from the relay, `Pong` and `Health` from the host, `Draining` from either;
//! * a *data* connection: one `Join`, with a ticket that a `Want` gave. What follows are the frames of [`super::frame`].
//!
//! A message is a kind (one byte), a length (two bytes, big-endian) and a body. Messages of unknown kinds are skipped, so that later
//! versions can add some. What the proofs are made of is the business of [`super::proof`].

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Cut, Reader};

/// The first bytes of each connection of a host. Read as the original's length it would be over a thousand million.
pub const PREAMBLE: [u8; 8] = *b"HAILREL1";

/// The longest body that is read; the longest that is written is a hello of a service with a long name.
pub const BODY_BYTES_MAX: usize = 512;

/// The longest name of a service.
pub const SERVICE_BYTES_MAX: usize = 64;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Host to relay: wants to serve.
    Hello {
        /// The service's name.
        service: String,
        /// Random.
        nonce: [u8; 32],
    },
    /// Relay to host.
    Challenge {
        /// Random.
        nonce: [u8; 32],
    },
    /// Host to relay: knows the token.
    Proof {
        /// See [`super::proof`].
        mac: [u8; 32],
    },
    /// Relay to host: knows the token too.
    Welcome {
        /// Names this control connection; its data connections tell it.
        session: u64,
        /// How often the relay sends a PING at the latest.
        heartbeat_ms: u32,
        /// See [`super::proof`].
        mac: [u8; 32],
    },
    /// Relay to host, instead of a welcome; the relay closes the connection.
    Refused(Refusal),
    /// Relay to host: open data connections, with these tickets.
    Want {
        /// The first ticket.
        first: u64,
        /// How many.
        count: u16,
    },
    /// Relay to host.
    Ping(u64),
    /// Host to relay, the same number.
    Pong(u64),
    /// Host to relay: whether the local service is well. It is until this says otherwise.
    Health(bool),
    /// Either way: takes no further sessions. A relay that says so is about to end: the host connects anew at once.
    Draining,
    /// Relay to host: how many hosts it has. The more they are, the more time they leave each other should it restart.
    Crowd(u32),
    /// Host to relay, the only message of a data connection.
    Join {
        /// Of the control connection.
        session: u64,
        /// One of those that a `Want` gave, each good for one connection.
        ticket: u64,
        /// See [`super::proof`].
        mac: [u8; 32],
    },
}

/// Why a relay refuses a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such service, or the token is another. A relay doesn't tell which.
    #[error("it has no such service, or the token is wrong")]
    Unknown,
    /// The service has as many hosts as it may.
    #[error("the service has as many hosts as it may have")]
    Full,
    /// The relay wants TLS.
    #[error("it wants TLS")]
    TlsRequired,
    /// A reason that this version does not know.
    #[error("reason {0}")]
    Other(u8),
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A body over [`BODY_BYTES_MAX`].
    #[error("a message of {len} bytes is longer than the {max} that are read", max = BODY_BYTES_MAX)]
    TooLong {
        /// The length that was announced.
        len: usize,
    },
    /// The body ends before this field does.
    #[error("the message ends inside its {0}")]
    Cut(&'static str),
    /// A name that is empty, too long or not UTF-8.
    #[error("the name of the service is not one of 1 to {max} bytes", max = SERVICE_BYTES_MAX)]
    BadName,
}

impl From<Cut> for MessageError {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut.field)
    }
}

impl Message {
    /// The message as it is sent.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let kind = match self {
            Self::Hello { service, nonce } => {
                body.put_u8(u8::try_from(service.len()).expect("configurations check names of services"));
                body.put_slice(service.as_bytes());
                body.put_slice(nonce);
                1
            }
            Self::Challenge { nonce } => {
                body.put_slice(nonce);
                2
            }
            Self::Proof { mac } => {
                body.put_slice(mac);
                3
            }
            Self::Welcome { session, heartbeat_ms, mac } => {
                body.put_u64(*session);
                body.put_u32(*heartbeat_ms);
                body.put_slice(mac);
                4
            }
            Self::Refused(refusal) => {
                body.put_u8(refusal.code());
                5
            }
            Self::Want { first, count } => {
                body.put_u64(*first);
                body.put_u16(*count);
                6
            }
            Self::Ping(number) => {
                body.put_u64(*number);
                7
            }
            Self::Pong(number) => {
                body.put_u64(*number);
                8
            }
            Self::Health(is_well) => {
                body.put_u8(u8::from(*is_well));
                9
            }
            Self::Draining => 10,
            Self::Join { session, ticket, mac } => {
                body.put_u64(*session);
                body.put_u64(*ticket);
                body.put_slice(mac);
                11
            }
            Self::Crowd(hosts) => {
                body.put_u32(*hosts);
                12
            }
        };
        let mut message = BytesMut::with_capacity(3 + body.len());
        message.put_u8(kind);
        message.put_u16(body.len() as u16);
        message.put(body);
        message.freeze()
    }

    /// Takes the first message off `input`; `Ok(None)` when it is not complete. Messages of unknown kinds are skipped.
    ///
    /// # Errors
    /// When it is none. Nothing after that can be read.
    pub fn take(input: &mut BytesMut) -> Result<Option<Self>, MessageError> {
        loop {
            let [kind, high, low] = match input.first_chunk::<3>() {
                Some(head) => *head,
                None => return Ok(None),
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > BODY_BYTES_MAX {
                return Err(MessageError::TooLong { len });
            }
            if input.len() < 3 + len {
                return Ok(None);
            }
            let body = input.split_to(3 + len).freeze().slice(3..);
            if let Some(message) = Self::decode(kind, body)? {
                return Ok(Some(message));
            }
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, MessageError> {
        let mut reader = Reader::new(body);
        Ok(Some(match kind {
            1 => {
                let service = reader.short("service")?;
                let is_name = (1..=SERVICE_BYTES_MAX).contains(&service.len());
                let service = String::from_utf8(service.to_vec()).ok().filter(|_| is_name);
                Self::Hello {
                    service: service.ok_or(MessageError::BadName)?,
                    nonce: array(&mut reader, "nonce")?,
                }
            }
            2 => Self::Challenge { nonce: array(&mut reader, "nonce")? },
            3 => Self::Proof { mac: array(&mut reader, "proof")? },
            4 => Self::Welcome {
                session: number(&mut reader, "session")?,
                heartbeat_ms: reader.u32("heartbeat")?,
                mac: array(&mut reader, "proof")?,
            },
            5 => Self::Refused(Refusal::from_code(reader.u8("reason")?)),
            6 => Self::Want { first: number(&mut reader, "ticket")?, count: reader.u16("count")? },
            7 => Self::Ping(number(&mut reader, "number")?),
            8 => Self::Pong(number(&mut reader, "number")?),
            9 => Self::Health(reader.u8("health")? != 0),
            10 => Self::Draining,
            11 => Self::Join {
                session: number(&mut reader, "session")?,
                ticket: number(&mut reader, "ticket")?,
                mac: array(&mut reader, "proof")?,
            },
            12 => Self::Crowd(reader.u32("hosts")?),
            _ => return Ok(None),
        }))
    }
}

impl Refusal {
    const fn code(self) -> u8 {
        match self {
            Self::Unknown => 1,
            Self::Full => 2,
            Self::TlsRequired => 3,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Unknown,
            2 => Self::Full,
            3 => Self::TlsRequired,
            code => Self::Other(code),
        }
    }
}

fn number(reader: &mut Reader, field: &'static str) -> Result<u64, Cut> {
    let (high, low) = (reader.u32(field)?, reader.u32(field)?);
    Ok(u64::from(high) << 32 | u64::from(low))
}

fn array(reader: &mut Reader, field: &'static str) -> Result<[u8; 32], Cut> {
    let taken = reader.take(32, field)?;
    Ok(taken[..].try_into().expect("32 bytes were taken"))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<Message> {
        let nonce = [7; 32];
        vec![
            Message::Hello { service: "ssh".to_owned(), nonce },
            Message::Challenge { nonce },
            Message::Proof { mac: nonce },
            Message::Welcome { session: 1 << 40, heartbeat_ms: 15_000, mac: nonce },
            Message::Refused(Refusal::Unknown),
            Message::Refused(Refusal::Full),
            Message::Refused(Refusal::TlsRequired),
            Message::Refused(Refusal::Other(200)),
            Message::Want { first: 9, count: 64 },
            Message::Ping(u64::MAX),
            Message::Pong(0),
            Message::Health(true),
            Message::Health(false),
            Message::Draining,
            Message::Join { session: 1, ticket: 2, mac: nonce },
            Message::Crowd(1000),
        ]
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            Message::Want { first: 258, count: 3 }.encode()[..],
            hex!("06 000a 0000000000000102 0003")
        );
        assert_eq!(Message::Draining.encode()[..], hex!("0a 0000"));
        let hello = Message::Hello { service: "ssh".to_owned(), nonce: [1; 32] }.encode();
        assert_eq!(hello[..8], hex!("01 0024 03 737368 01"));
    }

    #[test]
    fn messages_are_read_as_they_were_written_and_unknown_ones_are_skipped() {
        let mut stream = BytesMut::new();
        for message in all() {
            stream.extend_from_slice(&hex!("63 0002 0102"));
            stream.extend_from_slice(&message.encode());
        }
        for message in all() {
            assert_eq!(Message::take(&mut stream), Ok(Some(message)));
        }
        assert_eq!(Message::take(&mut stream), Ok(None));
    }

    #[test]
    fn lengths_have_limits() {
        let take = |bytes: &[u8]| Message::take(&mut BytesMut::from(bytes));
        assert_eq!(take(&hex!("07 0200")), Ok(None));
        assert_eq!(take(&hex!("07 0201")), Err(MessageError::TooLong { len: 513 }));
        assert_eq!(take(&hex!("07 0001 00")), Err(MessageError::Cut("number")));
        assert_eq!(take(&hex!("01 0001 00")), Err(MessageError::BadName));
        let longest = Message::Hello { service: "x".repeat(64), nonce: [0; 32] };
        assert_eq!(take(&longest.encode()), Ok(Some(longest)));
        let longer = Message::Hello { service: "x".repeat(65), nonce: [0; 32] };
        assert_eq!(take(&longer.encode()), Err(MessageError::BadName));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Message::take(&mut input) {}
        }

        #[test]
        fn a_message_that_is_cut_is_waited_for(which in 0..16_usize, cut in 0..600_usize) {
            let whole = all()[which].encode();
            let cut = cut % whole.len();
            prop_assert_eq!(Message::take(&mut BytesMut::from(&whole[..cut])), Ok(None));
        }
    }
}
