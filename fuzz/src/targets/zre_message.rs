//! A ZRE message: its frames, each behind a length of two bytes; the last is what is left.

use bytes::Bytes;
use hailer::zre::Endpoint;
use hailer::zre::message::{Body, CONTENT_FRAMES_MAX, GROUPS_MAX, HEADERS_MAX, Message, TEXT_MAX};

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut frames = Vec::new();
    while rest.len() >= 2 && frames.len() < 8 {
        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let _ = rest.split_to(2);
        frames.push(rest.split_to(len.min(rest.len())));
    }
    frames.push(rest);
    let Ok(message) = Message::decode(frames) else { return };
    match &message.body {
        Body::Hello(hello) => {
            assert!(hello.groups.len() <= GROUPS_MAX && hello.headers.len() <= HEADERS_MAX);
            assert!(
                hello.groups.iter().chain([&hello.name, &hello.endpoint]).all(|text| text.len() <= TEXT_MAX)
            );
            if let Ok(endpoint) = String::from_utf8_lossy(hello.endpoint.as_bytes()).parse::<Endpoint>() {
                assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
        Body::Whisper { content } | Body::Shout { content, .. } => {
            assert!(!content.is_empty() && content.len() <= CONTENT_FRAMES_MAX);
        }
        _ => {}
    }
    let again = message.encode().expect("what was taken can be sent");
    assert_eq!(Message::decode(again).as_ref(), Ok(&message));
}
