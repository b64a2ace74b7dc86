//! A gossip message; keys and values as each dialect has them are read by the hub, see `gossip_hub`.

use bytes::Bytes;
use hailer::gossip::message::{KEY_MAX, Message, VALUE_MAX};

/// One execution.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = Message::decode(Bytes::copy_from_slice(bytes)) {
        if let Message::Publish(publish) = &message {
            assert!(publish.key.len() <= KEY_MAX && publish.value.len() <= VALUE_MAX);
        }
        let again = message.encode().expect("what was taken can be sent");
        assert_eq!(again.len(), message.encoded_len());
        assert_eq!(Message::decode(again).as_ref(), Ok(&message));
    }
}
