//! The control connection between a relay and a host.

use bytes::BytesMut;
use hailer::fuzzing::Source;
use hailer::relay::message::{BODY_BYTES_MAX, Message};

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let piece = source.below(64) + 1;
    let mut input = BytesMut::new();
    for piece in source.rest().chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match Message::take(&mut input) {
                Ok(Some(message)) => {
                    let mut again = BytesMut::from(&message.encode()[..]);
                    let taken = Message::take(&mut again).expect("what was taken can be sent");
                    assert_eq!(taken, Some(message));
                    assert!(again.is_empty());
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(
            input.len() <= BODY_BYTES_MAX + 8 + piece.len(),
            "a message that is too long is refused at once"
        );
    }
}
