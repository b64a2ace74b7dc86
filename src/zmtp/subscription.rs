//! Subscriptions: what a SUB socket asks for, and what a PUB socket keeps of it (RFC 37, "Publish-Subscribe Pattern").
//!
//! ```text
//! peer speaks 3.0   message   0x01 topic   or   0x00 topic
//! peer speaks 3.1   command   SUBSCRIBE topic   or   CANCEL topic
//! ```
//!
//! libzmq's publishers take both from anybody, and so does a [`Session`](super::Session), which hands commands on as the
//! messages of ZMTP 3.0. A topic is a prefix of a message's first frame; the empty one is every message.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Command, Frame};

/// What a subscriber says to a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Messages that begin with this are wanted.
    Subscribe(Bytes),
    /// One subscription to this has ended.
    Cancel(Bytes),
}

impl Subscription {
    pub(super) const SUBSCRIBE: &'static [u8] = b"SUBSCRIBE";
    pub(super) const CANCEL: &'static [u8] = b"CANCEL";

    /// Reads the message of a subscriber; `None` when it is none that subscribes or cancels.
    pub fn decode(message: &[Bytes]) -> Option<Self> {
        let [frame] = message else { return None };
        match frame.first()? {
            1 => Some(Self::Subscribe(frame.slice(1..))),
            0 => Some(Self::Cancel(frame.slice(1..))),
            _ => None,
        }
    }

    /// The subscription that a command is.
    pub(super) fn from_command(name: &[u8], topic: &Bytes) -> Option<Self> {
        match name {
            Self::SUBSCRIBE => Some(Self::Subscribe(topic.clone())),
            Self::CANCEL => Some(Self::Cancel(topic.clone())),
            _ => None,
        }
    }

    /// The frame for a peer that speaks this minor version of ZMTP 3.
    pub(super) fn to_frame(&self, minor: u8) -> Frame {
        if minor == 0 {
            return Frame::Part { body: self.to_message(), more: false };
        }
        let (name, topic) = match self {
            Self::Subscribe(topic) => (Self::SUBSCRIBE, topic),
            Self::Cancel(topic) => (Self::CANCEL, topic),
        };
        let command = Command::Other { name: Bytes::from_static(name), data: topic.clone() };
        Frame::Command(command.encode())
    }

    /// The single frame of the message of ZMTP 3.0.
    pub(super) fn to_message(&self) -> Bytes {
        let (first, topic) = match self {
            Self::Subscribe(topic) => (1, topic),
            Self::Cancel(topic) => (0, topic),
        };
        let mut body = BytesMut::with_capacity(1 + topic.len());
        body.put_u8(first);
        body.put_slice(topic);
        body.freeze()
    }
}

/// What one subscriber of a publisher wants.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions {
    /// How many times each topic is subscribed to.
    topics: BTreeMap<Bytes, u32>,
}

impl Subscriptions {
    /// The most topics that are kept for one subscriber; further ones are ignored. ZRE's repeaters use one.
    pub const TOPICS_MAX: usize = 64;
    /// The longest topic that is kept, in bytes; longer than any message here.
    pub const TOPIC_BYTES_MAX: usize = 255;

    /// Takes note of what the subscriber says. `true` when it has subscribed to something new.
    pub fn apply(&mut self, subscription: &Subscription) -> bool {
        match subscription {
            Subscription::Subscribe(topic) => {
                if let Some(count) = self.topics.get_mut(topic) {
                    *count = count.saturating_add(1);
                    return false;
                }
                let is_room = self.topics.len() < Self::TOPICS_MAX && topic.len() <= Self::TOPIC_BYTES_MAX;
                if is_room {
                    // Copied, so that it does not keep what was received with it.
                    self.topics.insert(Bytes::copy_from_slice(topic), 1);
                }
                is_room
            }
            Subscription::Cancel(topic) => {
                if let Some(count) = self.topics.get_mut(topic) {
                    *count -= 1;
                    if *count == 0 {
                        self.topics.remove(topic);
                    }
                }
                false
            }
        }
    }

    /// Whether a message with this first frame is wanted.
    pub fn want(&self, first_frame: &[u8]) -> bool {
        self.topics.keys().any(|topic| first_frame.starts_with(topic))
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    fn encode(subscription: &Subscription, minor: u8) -> Vec<u8> {
        let frame = subscription.to_frame(minor);
        let mut bytes = BytesMut::new();
        frame.put_header(&mut bytes);
        bytes.extend_from_slice(frame.body());
        bytes.to_vec()
    }

    /// The table in libzmq's terms: what 4.3 sends to peers of each minor version.
    #[test]
    fn subscriptions_are_messages_for_3_0_and_commands_for_3_1() {
        let all = Subscription::Subscribe(Bytes::new());
        let some = Subscription::Subscribe(Bytes::from_static(b"AB"));
        let cancel = Subscription::Cancel(Bytes::from_static(b"AB"));
        assert_eq!(encode(&all, 0), hex!("00 01 01"));
        assert_eq!(encode(&some, 0), hex!("00 03 01 41 42"));
        assert_eq!(encode(&cancel, 0), hex!("00 03 00 41 42"));
        assert_eq!(encode(&all, 1), hex!("04 0a 09 535542534352494245"));
        assert_eq!(encode(&some, 1), hex!("04 0c 09 535542534352494245 41 42"));
        assert_eq!(encode(&cancel, 1), hex!("04 09 06 43414e43454c 41 42"));
        for subscription in [all, some, cancel] {
            assert_eq!(Subscription::decode(&[subscription.to_message()]), Some(subscription));
        }
    }

    #[test]
    fn other_messages_subscribe_to_nothing() {
        let frame = Bytes::from_static;
        for message in [vec![], vec![frame(b"")], vec![frame(b"\x02AB")], vec![frame(b"\x01"), frame(b"")]] {
            assert_eq!(Subscription::decode(&message), None);
        }
    }

    #[test]
    fn topics_are_counted_and_bounded() {
        let topic = |text: String| Bytes::from(text);
        let mut wanted = Subscriptions::default();
        assert!(!wanted.want(b""));
        assert!(wanted.apply(&Subscription::Subscribe(topic("A".into()))));
        assert!(!wanted.apply(&Subscription::Subscribe(topic("A".into()))));
        wanted.apply(&Subscription::Cancel(topic("B".into())));
        wanted.apply(&Subscription::Cancel(topic("A".into())));
        assert!(wanted.want(b"AB") && !wanted.want(b"BA"));
        wanted.apply(&Subscription::Cancel(topic("A".into())));
        assert!(!wanted.want(b"AB"));
        for number in 0..=Subscriptions::TOPICS_MAX {
            let is_kept = wanted.apply(&Subscription::Subscribe(topic(format!("{number:03}"))));
            assert_eq!(is_kept, number < Subscriptions::TOPICS_MAX);
        }
        let longest = Subscriptions::TOPIC_BYTES_MAX;
        assert!(Subscriptions::default().apply(&Subscription::Subscribe(topic("x".repeat(longest)))));
        assert!(!Subscriptions::default().apply(&Subscription::Subscribe(topic("x".repeat(longest + 1)))));
    }
}
