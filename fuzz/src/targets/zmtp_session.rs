//! A whole ZMTP connection, its bytes in pieces: what a stranger makes a session say and hold.

use bytes::Bytes;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::machine::Machine;
use hailer::zmtp::{Greeting, Input, Limits, Output, Session, SessionConfig, SocketType};

const LIMITS: Limits = Limits { command_bytes: 512, frame_bytes: 512, message_bytes: 1024, frames: 4 };
/// What a DEALER says after its greeting.
const READY: &[u8] =
    b"\x04\x3a\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x11\x010123456789abcdef";

/// The session after bytes in pieces of this size, and what it did in short.
fn converse(stream: &[u8], piece: usize, socket_type: SocketType, is_reserved: bool) -> Vec<Output> {
    let config = SessionConfig {
        limits: LIMITS,
        is_reserved,
        ..SessionConfig::new(socket_type, Bytes::from_static(b"\x01fedcba9876543210"))
    };
    let mut session = Session::new(config, Timestamp::ZERO);
    session.send(vec![Bytes::from_static(b"first")]);
    let mut outputs = Vec::new();
    for piece in stream.chunks(piece) {
        let before = session.pending_bytes();
        session.handle(Timestamp::ZERO, Input::Received(Bytes::copy_from_slice(piece)));
        let mut said = 0;
        while let Some(output) = session.poll() {
            match &output {
                Output::Transmit(bytes) => said += bytes.len(),
                Output::Greeted => session.introduce(),
                Output::Message(frames) => {
                    assert!(!frames.is_empty() && frames.len() <= LIMITS.frames);
                    assert!(frames.iter().map(Bytes::len).sum::<usize>() <= LIMITS.message_bytes);
                }
                Output::Ready(_) | Output::Failed(_) => {}
            }
            let is_over = matches!(output, Output::Failed(_));
            if !matches!(output, Output::Transmit(_)) {
                outputs.push(output);
            }
            if is_over {
                assert!(session.poll().is_none(), "nothing follows");
                return outputs;
            }
        }
        assert!(said <= before + 256 + 2 * piece.len(), "a stranger is answered in kind");
    }
    outputs
}

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let socket_type =
        source.pick(&[SocketType::Router, SocketType::Dealer, SocketType::Pub, SocketType::Sub]);
    let (piece, start, is_reserved) = (source.below(90) + 1, source.below(4), source.below(2) > 0);
    let mut stream = Vec::new();
    if start > 0 {
        stream.extend_from_slice(&Greeting::null(0).encode());
    }
    if start > 1 {
        stream.extend_from_slice(READY);
    }
    stream.extend_from_slice(source.rest());
    let outputs = converse(&stream, piece, socket_type, is_reserved);
    assert_eq!(outputs, converse(&stream, usize::MAX, socket_type, is_reserved), "pieces make no difference");
}
