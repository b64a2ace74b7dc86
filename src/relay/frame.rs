//! What travels on a data connection of the modern protocol: sessions, one after the other.
//!
//! A connection carries many sessions, so that a client costs no further connection between relay and host. The relay begins
//! one with `OPEN`; then both sides send `DATA`, and each ends its direction with `END`, which is a half-close. A side that
//! can't go on sends `RESET`, also after its `END`: nothing that the other sends is of any use. When both directions
//! have ended, the connection is free for the next session. `END` and `RESET` name the session, because one may still be
//! on its way when the next begins. `PING` and `PONG` show that a free connection is alive.
//!
//! A session of a UDP service begins with `OPEN UDP`, and has `DATAGRAM` where the other has `DATA`: one for each datagram,
//! also for an empty one.
//!
//! A frame is a kind (one byte), a length (three bytes, big-endian) and a body.
//!
//! [`Framed`] reads and writes frames on a stream. It holds memory only while bytes wait in it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::{BUFFER_BYTES, Buffer};
use super::config::Protocol;
use crate::codec::{Cut, Reader};

/// Bytes of a frame before its body.
const HEADER_BYTES: usize = 4;
/// The longest body but of `DATA` and `DATAGRAM`: an `OPEN` with two IPv6 addresses has 42 bytes.
const CONTROL_BYTES_MAX: usize = 64;
/// Room in an output buffer that data leaves to other frames.
const CONTROL_ROOM: usize = 512;
/// The longest datagram that is carried. It has to be in a buffer as a whole; UDP has 487 bytes more over IPv4, which
/// nobody uses.
pub(super) const DATAGRAM_BYTES_MAX: usize = BUFFER_BYTES - CONTROL_ROOM - HEADER_BYTES;

/// A frame that is neither `DATA` nor `DATAGRAM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Begins a session.
    Open(Opened),
    /// Nothing follows in this direction of this session.
    End(u32),
    /// This session is over.
    Reset(u32),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

/// A session that a relay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Its number on this connection.
    pub(super) session: u32,
    /// What it carries.
    pub(super) protocol: Protocol,
    /// Whom it is for.
    pub(super) client: SocketAddr,
    /// Where on the relay the client came in.
    pub(super) relay: SocketAddr,
}

/// What is next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of a session: [`Framed::data`].
    Data,
    /// One datagram of a session: [`Framed::data`], all of which is to be consumed before the next piece.
    Datagram,
    /// Another frame.
    Control(Control),
    /// The other side has closed the connection between two frames.
    Closed,
}

/// Why a data connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed inside a frame or a session")]
    Cut,
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    #[error("a frame of kind {kind} with {len} bytes")]
    TooLong { kind: u8, len: usize },
    #[error("a frame ends inside its {0}")]
    Malformed(&'static str),
    #[error("{0} out of turn")]
    OutOfTurn(&'static str),
}

impl From<Cut> for FrameError {
    fn from(cut: Cut) -> Self {
        Self::Malformed(cut.field)
    }
}

impl Control {
    fn encode(self) -> Vec<u8> {
        let mut body = Vec::new();
        let kind = match self {
            Self::Open(opened) => {
                body.extend(opened.session.to_be_bytes());
                put_address(&mut body, opened.client);
                put_address(&mut body, opened.relay);
                match opened.protocol {
                    Protocol::Tcp => 1,
                    Protocol::Udp => 7,
                }
            }
            Self::End(session) => {
                body.extend(session.to_be_bytes());
                3
            }
            Self::Reset(session) => {
                body.extend(session.to_be_bytes());
                4
            }
            Self::Ping => 5,
            Self::Pong => 6,
        };
        let mut frame = header(kind, body.len()).to_vec();
        frame.append(&mut body);
        frame
    }

    fn decode(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(body));
        Ok(match kind {
            1 | 7 => Self::Open(Opened {
                session: reader.u32("session")?,
                protocol: if kind == 1 { Protocol::Tcp } else { Protocol::Udp },
                client: address(&mut reader)?,
                relay: address(&mut reader)?,
            }),
            3 => Self::End(reader.u32("session")?),
            4 => Self::Reset(reader.u32("session")?),
            5 => Self::Ping,
            6 => Self::Pong,
            kind => return Err(FrameError::UnknownKind(kind)),
        })
    }
}

const DATA: u8 = 2;
const DATAGRAM: u8 = 8;

fn header(kind: u8, len: usize) -> [u8; HEADER_BYTES] {
    (u32::from(kind) << 24 | len as u32).to_be_bytes()
}

/// How many bytes the frame at the front of `filled` has, if that matters: `DATA` is taken as it comes.
fn frame_bytes(filled: &[u8]) -> usize {
    match filled.first_chunk::<HEADER_BYTES>() {
        Some([DATAGRAM, len @ ..]) => {
            let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            HEADER_BYTES + len.min(DATAGRAM_BYTES_MAX)
        }
        _ => HEADER_BYTES + CONTROL_BYTES_MAX,
    }
}

fn put_address(body: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            body.push(4);
            body.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            body.push(6);
            body.extend(ip.octets());
        }
    }
    body.extend(address.port().to_be_bytes());
}

fn address(reader: &mut Reader) -> Result<SocketAddr, FrameError> {
    let ip: IpAddr = match reader.u8("address family")? {
        4 => <[u8; 4]>::try_from(&reader.take(4, "address")?[..]).expect("4 bytes were taken").into(),
        6 => <[u8; 16]>::try_from(&reader.take(16, "address")?[..]).expect("16 bytes were taken").into(),
        _ => return Err(FrameError::Malformed("address family")),
    };
    Ok(SocketAddr::new(ip, reader.u16("port")?))
}

/// Frames on a stream.
#[derive(Debug)]
pub(super) struct Framed<S> {
    stream: S,
    input: Option<Buffer>,
    /// Bytes of a `DATA` frame that were not taken yet.
    left: usize,
    output: Option<Buffer>,
    needs_flush: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Frames on a stream from which `received` was read already.
    pub(super) fn new(stream: S, received: &[u8]) -> Self {
        let input = (!received.is_empty()).then(|| {
            let mut input = Buffer::take();
            input.put(received);
            input
        });
        Self { stream, input, left: 0, output: None, needs_flush: false }
    }

    /// What comes next.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, FrameError>> {
        loop {
            if let Some(piece) = self.next_piece()? {
                return Poll::Ready(Ok(piece));
            }
            let input = self.input.get_or_insert_with(Buffer::take);
            if input.filled().len() + input.room_len() < frame_bytes(input.filled()) {
                input.compact();
            }
            let mut room = ReadBuf::new(input.room());
            let read = Pin::new(&mut self.stream).poll_read(context, &mut room);
            let count = room.filled().len();
            match read {
                Poll::Ready(Ok(())) if count > 0 => input.advance(count),
                outcome => {
                    let is_between = input.is_empty() && self.left == 0;
                    if input.is_empty() {
                        self.input = None;
                    }
                    ready!(outcome)?;
                    return Poll::Ready(if is_between { Ok(Piece::Closed) } else { Err(FrameError::Cut) });
                }
            }
        }
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, FrameError> {
        let Some(input) = &mut self.input else { return Ok(None) };
        loop {
            if self.left > 0 {
                return Ok((!input.is_empty()).then_some(Piece::Data));
            }
            let Some(head) = input.filled().first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let head = u32::from_be_bytes(*head);
            let (kind, len) = ((head >> 24) as u8, (head & 0x00ff_ffff) as usize);
            if kind == DATA {
                input.consume(HEADER_BYTES);
                self.left = len;
                continue;
            }
            let len_max = if kind == DATAGRAM { DATAGRAM_BYTES_MAX } else { CONTROL_BYTES_MAX };
            if len > len_max {
                return Err(FrameError::TooLong { kind, len });
            }
            let Some(body) = input.filled().get(HEADER_BYTES..HEADER_BYTES + len) else { return Ok(None) };
            if kind == DATAGRAM {
                input.consume(HEADER_BYTES);
                self.left = len;
                return Ok(Some(Piece::Datagram));
            }
            let control = Control::decode(kind, body)?;
            input.consume(HEADER_BYTES + len);
            if input.is_empty() {
                self.input = None;
            }
            return Ok(Some(Piece::Control(control)));
        }
    }

    /// The bytes that [`Piece::Data`] or [`Piece::Datagram`] told of.
    pub(super) fn data(&self) -> &[u8] {
        let filled = self.input.as_ref().map_or(&[][..], Buffer::filled);
        &filled[..filled.len().min(self.left)]
    }

    /// Takes bytes off the front of [`Framed::data`].
    pub(super) fn consume(&mut self, count: usize) {
        self.left -= count;
        if let Some(input) = &mut self.input {
            input.consume(count);
            if input.is_empty() {
                self.input = None;
            }
        }
    }

    /// Puts a frame after what waits to be written; `false` when there is no room for it.
    pub(super) fn put(&mut self, control: Control) -> bool {
        let frame = control.encode();
        let output = self.output.get_or_insert_with(Buffer::take);
        if output.room_len() < frame.len() {
            return false;
        }
        output.put(&frame);
        true
    }

    /// Reads bytes of a session from `plain` and puts them after what waits to be written. Returns how many there were, 0
    /// at their end. When there is no room, [`Framed::poll_write`] comes first.
    pub(super) fn poll_fill<P: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        plain: &mut P,
    ) -> Poll<io::Result<usize>> {
        let output = self.output.get_or_insert_with(Buffer::take);
        let start = output.room_len();
        let room = output.room();
        let end = start.saturating_sub(CONTROL_ROOM);
        debug_assert!(end > HEADER_BYTES, "there is room for data after a few other frames");
        let mut data = ReadBuf::new(&mut room[HEADER_BYTES..end]);
        let read = Pin::new(plain).poll_read(context, &mut data);
        let count = data.filled().len();
        if count > 0 {
            room[..HEADER_BYTES].copy_from_slice(&header(DATA, count));
            output.advance(HEADER_BYTES + count);
        } else if output.is_empty() {
            self.output = None;
        }
        read.map_ok(|()| count)
    }

    /// Puts a datagram after what waits to be written; `false` when there is no room for it.
    pub(super) fn put_datagram(&mut self, datagram: &[u8]) -> bool {
        let output = self.output.get_or_insert_with(Buffer::take);
        if output.room_len() < HEADER_BYTES + datagram.len() + CONTROL_ROOM {
            return false;
        }
        output.put(&header(DATAGRAM, datagram.len()));
        output.put(datagram);
        true
    }

    /// Writes what waits; ready when all of it is on its way.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(output) = &mut self.output {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, output.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            output.consume(count);
            if output.is_empty() {
                self.output = None;
            }
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether bytes wait to be written.
    pub(super) const fn is_writing(&self) -> bool {
        self.output.is_some()
    }

    /// Whether it holds no memory for bytes.
    #[cfg(test)]
    pub(super) const fn is_empty_handed(&self) -> bool {
        self.input.is_none() && self.output.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn opened() -> Opened {
        Opened {
            session: 7,
            protocol: Protocol::Tcp,
            client: "10.0.0.9:51000".parse().unwrap(),
            relay: "[2001:db8::1]:2222".parse().unwrap(),
        }
    }

    #[test]
    fn golden_bytes() {
        let open = Control::Open(opened()).encode();
        assert_eq!(
            open,
            hex!("01 00001e 00000007 04 0a000009 c738 06 20010db8000000000000000000000001 08ae")
        );
        assert_eq!(Control::End(1).encode(), hex!("03 000004 00000001"));
        assert_eq!(Control::Reset(258).encode(), hex!("04 000004 00000102"));
        assert_eq!(Control::Ping.encode(), hex!("05 000000"));
        assert_eq!(header(DATA, 0x01_0203), hex!("02 010203"));
        let udp = Control::Open(Opened { protocol: Protocol::Udp, ..opened() }).encode();
        assert_eq!((udp[0], &udp[1..]), (7, &open[1..]));
        let mut framed = Framed::new(tokio::io::empty(), b"");
        assert!(framed.put_datagram(b"where?") && framed.put_datagram(b""));
        let written = framed.output.take().unwrap();
        assert_eq!(written.filled(), hex!("08 000006 77686572653f 08 000000"));
    }

    #[test]
    fn what_is_written_is_read() {
        let udp = Opened { protocol: Protocol::Udp, ..opened() };
        for control in [
            Control::Open(opened()),
            Control::Open(udp),
            Control::End(9),
            Control::Reset(u32::MAX),
            Control::Ping,
            Control::Pong,
        ] {
            let frame = control.encode();
            assert_eq!(Control::decode(frame[0], &frame[4..]).unwrap(), control);
        }
    }

    #[test]
    fn bodies_have_limits() {
        let piece = |bytes: &[u8]| Framed::new(tokio::io::empty(), bytes).next_piece();
        assert!(matches!(piece(&hex!("01 000041")), Err(FrameError::TooLong { len: 65, .. })));
        assert!(matches!(piece(&hex!("01 000040")), Ok(None)));
        assert_eq!(DATAGRAM_BYTES_MAX, 0xfdfc);
        assert!(matches!(piece(&hex!("08 00fdfc")), Ok(None)));
        assert!(matches!(piece(&hex!("08 00fdfd")), Err(FrameError::TooLong { len: 0xfdfd, .. })));
        assert!(matches!(piece(&hex!("09 000000")), Err(FrameError::UnknownKind(9))));
        assert!(matches!(piece(&hex!("03 000002 0000")), Err(FrameError::Malformed("session"))));
        assert!(matches!(
            piece(&hex!("01 000005 00000000 05")),
            Err(FrameError::Malformed("address family"))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framed = Framed::new(tokio::io::empty(), &bytes);
            while let Ok(Some(piece)) = framed.next_piece() {
                let count = framed.data().len();
                match piece {
                    Piece::Data => prop_assert!(count > 0),
                    Piece::Datagram => {}
                    Piece::Control(_) | Piece::Closed => continue,
                }
                framed.consume(count);
            }
        }

        #[test]
        fn datagrams_keep_their_boundaries(
            lens in proptest::collection::vec(prop_oneof![0..2000_usize, 0..=DATAGRAM_BYTES_MAX], 1..12),
            room in 1..100_000_usize,
        ) {
            let (here, there) = tokio::io::duplex(room);
            let (mut writer, mut reader) = (Framed::new(here, b""), Framed::new(there, b""));
            let write = async {
                for (i, len) in lens.iter().enumerate() {
                    let datagram = vec![i as u8; *len];
                    while !writer.put_datagram(&datagram) {
                        poll_fn(|context| writer.poll_write(context)).await.unwrap();
                    }
                }
                poll_fn(|context| writer.poll_write(context)).await.unwrap();
            };
            let read = async {
                for (i, len) in lens.iter().enumerate() {
                    let piece = poll_fn(|context| reader.poll_piece(context)).await.unwrap();
                    assert_eq!((piece, reader.data()), (Piece::Datagram, &vec![i as u8; *len][..]));
                    reader.consume(*len);
                }
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { tokio::join!(biased; write, read) });
            prop_assert!(reader.is_empty_handed() && writer.is_empty_handed());
        }
    }
}
