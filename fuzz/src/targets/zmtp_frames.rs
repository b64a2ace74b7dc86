//! The frames of a ZMTP connection, in pieces: however the bytes are cut, the frames are the same.

use bytes::{Bytes, BytesMut};
use hailer::fuzzing::Source;
use hailer::zmtp::{Frame, FrameError, Framer, Limits};

const LIMITS: Limits = Limits { command_bytes: 64, frame_bytes: 512, message_bytes: 1024, frames: 4 };

fn read(stream: &[u8], pieces: usize, takes_messages: bool) -> (Vec<Frame>, Option<FrameError>) {
    let mut framer = Framer::new(LIMITS);
    if takes_messages {
        framer.take_messages();
    }
    let mut frames = Vec::new();
    for piece in stream.chunks(pieces) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match framer.read(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(piece.is_empty(), "a framer takes all that there is");
    }
    (frames, None)
}

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let (pieces, takes_messages) = (source.below(80) + 1, source.below(8) > 0);
    let stream = source.rest();
    let (frames, error) = read(stream, pieces, takes_messages);
    assert_eq!((&frames, &error), (&read(stream, usize::MAX, takes_messages).0, &error));
    for frame in &frames {
        assert!(frame.body().len() <= LIMITS.frame_bytes);
        let mut encoded = BytesMut::new();
        frame.put_header(&mut encoded);
        encoded.extend_from_slice(frame.body());
        assert_eq!(encoded.len(), frame.encoded_len());
    }
}
