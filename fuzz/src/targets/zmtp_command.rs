//! A ZMTP command, and a message of a subscriber.

use bytes::Bytes;
use hailer::zmtp::{Command, Subscription, Subscriptions};

/// One execution.
pub fn run(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    if let Ok(command) = Command::decode(body.clone()) {
        assert_eq!(Command::decode(command.encode()).as_ref(), Ok(&command));
    }
    let mut topics = Subscriptions::default();
    for message in bytes.split(|byte| *byte == b'\n') {
        if let Some(subscription) = Subscription::decode(&[Bytes::copy_from_slice(message)])
            && topics.apply(&subscription)
            && let Subscription::Subscribe(topic) = &subscription
        {
            assert!(topic.len() <= Subscriptions::TOPIC_BYTES_MAX && topics.want(topic));
        }
    }
}
