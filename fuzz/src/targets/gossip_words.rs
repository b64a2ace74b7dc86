//! What the participants of gossip say, for its hub and its client.

use bytes::Bytes;
use hailer::fuzzing::Source;
use hailer::gossip::message::{Message, Publish};
use hailer::zre::{PeerId, Text};

/// A client of czmq's kind, of the Haskell kind, of ours, or another hub.
pub fn identity(source: &mut Source<'_>) -> Bytes {
    let number = source.byte() % 6;
    match source.below(6) {
        0 | 1 => Bytes::new(),
        2 => vec![number; 16].into(),
        3 => [b"hailerc".as_slice(), &[number; 24]].concat().into(),
        4 => [b"hailerh".as_slice(), &[number; 24]].concat().into(),
        _ => Bytes::copy_from_slice(source.bytes()),
    }
}

/// A tuple of a few nodes and things, as any dialect has it.
pub fn publish(source: &mut Source<'_>) -> Message {
    let peer = [source.byte() % 6; 16];
    let stamped = |origin: u8, stamp: u64| {
        [&[origin; 16], stamp.to_be_bytes().as_slice(), PeerId::from_bytes(peer).to_string().as_bytes()]
            .concat()
    };
    let key: Bytes = match source.below(6) {
        0 | 1 => PeerId::from_bytes(peer).to_string().into(),
        2 => Bytes::copy_from_slice(&peer),
        3 => stamped(source.byte() % 4, source.number()).into(),
        4 => Bytes::from_static(b"service"),
        _ => Bytes::copy_from_slice(source.bytes()),
    };
    let value = match source.below(8) {
        0 => Text::from(Bytes::copy_from_slice(source.bytes())),
        1 => Text::from("x".repeat(600).as_str()),
        2 => Text::from("tcp://10.0.0.1:49152|rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"),
        host => Text::from(format!("tcp://10.0.0.{}:49152", host % 4).as_str()),
    };
    let ttl = u32::try_from(source.number()).unwrap_or(u32::MAX);
    Message::Publish(Publish { key, value, ttl })
}
