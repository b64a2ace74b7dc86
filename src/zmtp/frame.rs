//! Frames: how messages and commands lie in the byte stream (RFC 37, "Framing").
//!
//! ```text
//! flags (1 MORE, 2 LONG, 4 COMMAND)   size: 1 byte, or 8 when LONG   body
//! ```
//!
//! The framer cuts a stream into frames and holds it to its limits. It does not join frames into messages.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// How much a peer may make us hold. The defaults are generous for ZRE and small for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the body of a command. READY needs about 100, and CURVE's INITIATE 300 and some for metadata.
    pub command_bytes: usize,
    /// Bytes in the body of one frame of a message.
    pub frame_bytes: usize,
    /// Bytes in all frames of a message together. The peer can make us hold so much for each of its connections.
    pub message_bytes: usize,
    /// Frames in a message. An empty one costs the sender 2 bytes, and us 32.
    pub frames: usize,
}

impl Limits {
    /// 8 KiB for commands; 16 MiB for a message, in one frame or in 1024.
    pub const DEFAULT: Self =
        Self { command_bytes: 8 << 10, frame_bytes: 16 << 20, message_bytes: 16 << 20, frames: 1024 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A command, whole: commands have one frame.
    Command(Bytes),
    /// A frame of a message.
    Part {
        /// Its content.
        body: Bytes,
        /// Whether more frames of the same message follow.
        more: bool,
    },
}

/// Why a stream of frames can't be followed any further. The peer is at fault; the connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is a command and says that more follows.
    #[error("a command says that more frames follow")]
    CommandWithMore,
    /// A message came although only commands may come yet.
    #[error("a message came before the handshake was complete")]
    MessageTooEarly,
    /// A command is over [`Limits::command_bytes`].
    #[error("a command of {size} bytes came, at most {max} are taken")]
    CommandTooLong {
        /// Its announced size.
        size: u64,
        /// The limit.
        max: usize,
    },
    /// A frame is over [`Limits::frame_bytes`].
    #[error("a frame of {size} bytes came, at most {max} are taken")]
    FrameTooLong {
        /// Its announced size.
        size: u64,
        /// The limit.
        max: usize,
    },
    /// The frames of a message together are over [`Limits::message_bytes`].
    #[error("a message of more than {max} bytes came")]
    MessageTooLong {
        /// The limit.
        max: usize,
    },
    /// A message has more than [`Limits::frames`] frames.
    #[error("a message of more than {max} frames came")]
    TooManyFrames {
        /// The limit.
        max: usize,
    },
}

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Flags and a long size.
const HEADER_MAX: usize = 9;

impl Frame {
    /// The content.
    pub const fn body(&self) -> &Bytes {
        match self {
            Self::Command(body) | Self::Part { body, .. } => body,
        }
    }

    /// Length of the whole frame in bytes.
    pub fn encoded_len(&self) -> usize {
        let len = self.body().len();
        len + if u8::try_from(len).is_ok() { 2 } else { HEADER_MAX }
    }

    /// Writes flags and size; the body has to follow. Sizes up to 255 take the short form, as in libzmq.
    pub fn put_header(&self, to: &mut BytesMut) {
        let flags = match self {
            Self::Command(_) => COMMAND,
            Self::Part { more: true, .. } => MORE,
            Self::Part { more: false, .. } => 0,
        };
        let len = self.body().len();
        if let Ok(len) = u8::try_from(len) {
            to.put_slice(&[flags, len]);
        } else {
            to.put_u8(flags | LONG);
            to.put_u64(len as u64);
        }
    }
}

/// Cuts a stream into frames. A frame that lies whole in one received piece becomes a slice of it; otherwise its bytes
/// are collected as they come, each copied once. Memory never follows an announced size.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    takes_messages: bool,
    header: Header,
    body: Option<Body>,
    /// Frames and bytes of the message that is being received, the one at hand included.
    frames: usize,
    bytes: usize,
}

/// The bytes of a header that may still be cut.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; HEADER_MAX],
    len: usize,
}

#[derive(Debug)]
struct Body {
    flags: u8,
    size: usize,
    collected: BytesMut,
}

impl Framer {
    /// A framer at the start of a handshake: it takes commands only.
    pub fn new(limits: Limits) -> Self {
        Self { limits, takes_messages: false, header: Header::default(), body: None, frames: 0, bytes: 0 }
    }

    /// From here on messages may come as well.
    pub const fn take_messages(&mut self) {
        self.takes_messages = true;
    }

    /// Whether the stream may end here: no frame and no message is cut.
    pub const fn is_between_messages(&self) -> bool {
        self.header.len == 0 && self.body.is_none() && self.frames == 0
    }

    /// Takes bytes from the front of `stream`, up to the end of the next frame. `None` when the frame is not complete yet;
    /// then `stream` is empty.
    ///
    /// # Errors
    /// At the header of a frame that breaks a rule or a limit. The framer is then of no use any more.
    pub fn read(&mut self, stream: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        if self.body.is_none() {
            let Some((flags, size)) = self.header.read(stream) else {
                return Ok(None);
            };
            let size = self.check(flags, size)?;
            self.body = Some(Body { flags, size, collected: BytesMut::new() });
        }
        let Some(body) = self.body.take_if(|body| stream.len() >= body.size - body.collected.len()) else {
            if let Some(body) = &mut self.body {
                body.collected.extend_from_slice(stream);
                stream.clear();
            }
            return Ok(None);
        };
        self.header.len = 0;
        let more = body.flags & MORE != 0;
        let is_command = body.flags & COMMAND != 0;
        if !is_command && !more {
            (self.frames, self.bytes) = (0, 0);
        }
        let body = body.complete(stream);
        Ok(Some(if is_command { Frame::Command(body) } else { Frame::Part { body, more } }))
    }

    /// Holds a header to the rules and limits. Reserved flags are ignored, as in libzmq.
    fn check(&mut self, flags: u8, size: u64) -> Result<usize, FrameError> {
        let Limits { command_bytes, frame_bytes, message_bytes, frames } = self.limits;
        let fits = |max: usize| usize::try_from(size).ok().filter(|size| *size <= max);
        if flags & COMMAND != 0 {
            if flags & MORE != 0 {
                return Err(FrameError::CommandWithMore);
            }
            return fits(command_bytes).ok_or(FrameError::CommandTooLong { size, max: command_bytes });
        }
        if !self.takes_messages {
            return Err(FrameError::MessageTooEarly);
        }
        let size = fits(frame_bytes).ok_or(FrameError::FrameTooLong { size, max: frame_bytes })?;
        if self.frames >= frames {
            return Err(FrameError::TooManyFrames { max: frames });
        }
        if size > message_bytes.saturating_sub(self.bytes) {
            return Err(FrameError::MessageTooLong { max: message_bytes });
        }
        self.frames += 1;
        self.bytes += size;
        Ok(size)
    }
}

impl Header {
    /// Takes what the header still lacks; flags and size once it is whole.
    fn read(&mut self, stream: &mut Bytes) -> Option<(u8, u64)> {
        loop {
            let is_whole = match self.len {
                0 | 1 => false,
                _ if self.bytes[0] & LONG == 0 => true,
                len => len == HEADER_MAX,
            };
            if is_whole {
                let size = &self.bytes[1..self.len];
                return Some((self.bytes[0], size.iter().fold(0, |size, byte| size << 8 | u64::from(*byte))));
            }
            self.bytes[self.len] = stream.try_get_u8().ok()?;
            self.len += 1;
        }
    }
}

impl Body {
    fn complete(mut self, stream: &mut Bytes) -> Bytes {
        let rest = stream.split_to(self.size - self.collected.len());
        if self.collected.is_empty() {
            return rest;
        }
        self.collected.extend_from_slice(&rest);
        self.collected.freeze()
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    const SMALL: Limits = Limits { command_bytes: 10, frame_bytes: 300, message_bytes: 500, frames: 3 };

    fn part(body: impl Into<Bytes>, more: bool) -> Frame {
        Frame::Part { body: body.into(), more }
    }

    fn encode(frames: &[Frame]) -> Bytes {
        let mut bytes = BytesMut::new();
        for frame in frames {
            let start = bytes.len();
            frame.put_header(&mut bytes);
            bytes.put_slice(frame.body());
            assert_eq!(bytes.len() - start, frame.encoded_len());
        }
        bytes.freeze()
    }

    fn framer(limits: Limits) -> Framer {
        let mut framer = Framer::new(limits);
        framer.take_messages();
        framer
    }

    fn decode(limits: Limits, stream: impl Into<Bytes>) -> Result<Vec<Frame>, FrameError> {
        let (mut framer, mut stream, mut frames) = (framer(limits), stream.into(), Vec::new());
        while let Some(frame) = framer.read(&mut stream)? {
            frames.push(frame);
        }
        assert!(stream.is_empty());
        Ok(frames)
    }

    #[test]
    fn a_message_of_three_frames_lies_in_the_stream_as_the_rfc_says() {
        let frames = [part("AB", true), part("", true), part(vec![7; 300], false)];
        let bytes = encode(&frames);
        assert_eq!(bytes[..15], hex!("01 02 4142  01 00  02 000000000000012c"));
        assert_eq!(decode(Limits::DEFAULT, bytes).unwrap(), frames);
        let command = [Frame::Command(Bytes::from_static(b"\x04PONGctx"))];
        assert_eq!(encode(&command)[..], hex!("04 08 04 504f4e47 637478"));
        assert_eq!(decode(Limits::DEFAULT, encode(&command)).unwrap(), command);
    }

    #[test]
    fn the_short_form_ends_at_255_bytes_and_the_long_form_may_be_used_for_less() {
        assert_eq!(encode(&[part(vec![0; 255], false)])[..2], [0, 255]);
        assert_eq!(encode(&[part(vec![0; 256], false)])[..9], hex!("02 0000000000000100"));
        assert_eq!(decode(SMALL, &hex!("02 0000000000000002 4142")[..]).unwrap(), [part("AB", false)]);
    }

    #[test]
    fn reserved_flags_are_ignored() {
        assert_eq!(decode(SMALL, &hex!("f8 02 4142")[..]).unwrap(), [part("AB", false)]);
    }

    #[test]
    fn a_cut_frame_is_not_yet_a_frame() {
        let whole = encode(&[part(vec![1; 260], true), part("x", false)]);
        for len in 0..whole.len() {
            let (mut framer, mut stream) = (framer(SMALL), whole.slice(..len));
            while framer.read(&mut stream).unwrap().is_some() {}
            assert_eq!(framer.is_between_messages(), len == 0, "{len} bytes");
            stream = whole.slice(len..);
            let mut last = None;
            while let Some(frame) = framer.read(&mut stream).unwrap() {
                last = Some(frame);
            }
            assert_eq!(last, Some(part("x", false)));
            assert!(framer.is_between_messages());
        }
    }

    #[test]
    fn a_whole_frame_is_a_slice_of_what_was_received() {
        let stream = encode(&[part("first", false), part("second", false)]);
        let frames = decode(SMALL, stream.clone()).unwrap();
        assert_eq!(frames[0].body().as_ptr(), stream[2..].as_ptr());
        assert_eq!(frames[1].body().as_ptr(), stream[9..].as_ptr());
    }

    #[test]
    fn limits_hold_at_the_limit_and_one_past_it() {
        let command = |len| decode(SMALL, encode(&[Frame::Command(vec![1; len].into())]));
        assert!(command(10).is_ok());
        assert_eq!(command(11), Err(FrameError::CommandTooLong { size: 11, max: 10 }));

        let frame = |len| decode(SMALL, encode(&[part(vec![1; len], false)]));
        assert!(frame(300).is_ok());
        assert_eq!(frame(301), Err(FrameError::FrameTooLong { size: 301, max: 300 }));

        let message = |len| decode(SMALL, encode(&[part(vec![1; 300], true), part(vec![1; len], false)]));
        assert!(message(200).is_ok());
        assert_eq!(message(201), Err(FrameError::MessageTooLong { max: 500 }));

        let frames = |more: usize| {
            let mut frames = vec![part("", true); more];
            frames.push(part("", false));
            decode(SMALL, encode(&frames))
        };
        assert!(frames(2).is_ok());
        assert_eq!(frames(3), Err(FrameError::TooManyFrames { max: 3 }));
    }

    #[test]
    fn limits_count_anew_with_each_message_and_commands_do_not_count() {
        let message =
            [part(vec![1; 250], true), Frame::Command("0123456789".into()), part(vec![1; 250], false)];
        assert!(decode(SMALL, encode(&[&message[..], &message, &message].concat())).is_ok());
    }

    #[test]
    fn an_announced_size_is_refused_before_anything_is_received_and_takes_no_memory() {
        let header = Bytes::from_static(&hex!("02 ffffffffffffffff"));
        assert_eq!(
            decode(Limits::DEFAULT, header),
            Err(FrameError::FrameTooLong { size: u64::MAX, max: 16 << 20 })
        );
        let mut framer = framer(Limits::DEFAULT);
        assert_eq!(framer.read(&mut Bytes::from_static(&hex!("02 0000000001000000 aabb"))), Ok(None));
        assert!(framer.body.unwrap().collected.capacity() < 1024);
    }

    #[test]
    fn commands_do_not_say_more_and_come_alone_at_first() {
        assert_eq!(decode(SMALL, &hex!("05 00")[..]), Err(FrameError::CommandWithMore));
        let mut framer = Framer::new(SMALL);
        assert_eq!(
            framer.read(&mut Bytes::from_static(&hex!("04 00"))),
            Ok(Some(Frame::Command(Bytes::new())))
        );
        assert_eq!(framer.read(&mut Bytes::from_static(&hex!("00 00"))), Err(FrameError::MessageTooEarly));
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let body = |len| proptest::collection::vec(any::<u8>(), len).prop_map(Bytes::from);
        prop_oneof![
            body(0..=10).prop_map(Frame::Command),
            (body(0..=300), any::<bool>()).prop_map(|(body, more)| Frame::Part { body, more }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_however_the_stream_is_cut(
            frames in proptest::collection::vec(any_frame(), 0..8),
            cuts in proptest::collection::vec(1..40_usize, 1..20),
        ) {
            let limits = Limits { frames: 8, message_bytes: 8 * 300, ..SMALL };
            let (mut framer, mut stream, mut got) = (framer(limits), encode(&frames), Vec::new());
            for len in cuts.iter().cycle() {
                if stream.is_empty() {
                    break;
                }
                let mut piece = stream.split_to(stream.len().min(*len));
                while let Some(frame) = framer.read(&mut piece).unwrap() {
                    got.push(frame);
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn no_stream_is_a_panic(stream in proptest::collection::vec(any::<u8>(), 0..600)) {
            let (mut framer, mut stream) = (framer(SMALL), Bytes::from(stream));
            while let Ok(Some(_)) = framer.read(&mut stream) {}
        }
    }
}
