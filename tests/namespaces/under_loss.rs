//! Hailers on a network that loses packets: they meet all the same, and nothing said is lost.

use std::time::Duration;

use serde_json::json;

use super::lab::{self, Lab};
use super::peer::{Peer, SOON};

/// Two meet and talk while every host loses `percent` of what comes in.
fn meet_and_talk(percent: u8, patience: Duration) {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    lab.lose(percent);
    let mut alice = Peer::hailer_chat(&lab, 0, "alice", "CHAT");
    let mut bob = Peer::hailer_chat(&lab, 1, "bob", "CHAT");
    alice.expect(patience, json!({"event": "ENTER", "name": "bob"}));
    bob.expect(patience, json!({"event": "ENTER", "name": "alice"}));
    alice.expect(patience, json!({"event": "JOIN", "name": "bob"}));
    for number in 0..10 {
        alice.say(&format!("message {number}"));
    }
    for number in 0..10 {
        let text = format!("message {number}");
        let next = bob.expect(patience, json!({"event": "SHOUT", "name": "alice"}));
        assert_eq!(next["content"], json!([text]), "in order and none missing");
    }
    alice.interrupt();
    assert!(alice.ended(SOON).success(), "loss does not keep a program from ending");
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn two_hailers_meet_and_talk_at_10_percent_loss() {
    meet_and_talk(10, Duration::from_secs(20));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn two_hailers_meet_and_talk_at_30_percent_loss() {
    meet_and_talk(30, Duration::from_secs(60));
}
