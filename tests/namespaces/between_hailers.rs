//! Hailers among themselves.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::lab::{self, Lab};
use super::peer::{Peer, SOON};

/// How long a killed program may stay known. Its kernel closes or refuses its connections at once; zyre takes 30 s.
pub(crate) const KILLED_KNOWN_MAX: Duration = Duration::from_secs(3);

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn two_hailers_meet_talk_and_part() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    let mut alice = Peer::hailer_chat(&lab, 0, "alice", "CHAT");
    let mut bob = Peer::hailer_chat(&lab, 1, "bob", "CHAT");

    let entered = alice.expect(SOON, json!({"event": "ENTER", "name": "bob"}));
    let bob_id = entered["peer"].as_str().expect("an identity").to_owned();
    assert_eq!(bob_id.len(), 32);
    assert!(bob_id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')), "{bob_id}");
    let endpoint = entered["endpoint"].as_str().expect("an endpoint");
    assert!(endpoint.starts_with("tcp://10.77.0.2:"), "{endpoint}");
    assert!(entered["headers"].is_object());
    let alice_id = bob.expect(SOON, json!({"event": "ENTER", "name": "alice"}))["peer"].clone();
    assert_ne!(alice_id, bob_id.as_str());
    alice.expect(SOON, json!({"event": "JOIN", "peer": bob_id, "name": "bob", "group": "CHAT"}));
    bob.expect(SOON, json!({"event": "JOIN", "peer": alice_id, "name": "alice", "group": "CHAT"}));

    alice.say("hello all");
    bob.expect(SOON, json!({"event": "SHOUT", "peer": alice_id, "name": "alice", "group": "CHAT", "content": ["hello all"]}));
    bob.say("/whisper alice to you, ümläut");
    alice.expect(
        SOON,
        json!({"event": "WHISPER", "peer": bob_id, "name": "bob", "content": ["to you, ümläut"]}),
    );
    alice.say(&format!("/whisper {bob_id} by number"));
    bob.expect(SOON, json!({"event": "WHISPER", "name": "alice", "content": ["by number"]}));

    alice.say("/join ROOM");
    bob.expect(SOON, json!({"event": "JOIN", "name": "alice", "group": "ROOM"}));
    alice.say("/leave ROOM");
    bob.expect(SOON, json!({"event": "LEAVE", "name": "alice", "group": "ROOM"}));
    alice.say("back here");
    bob.expect(SOON, json!({"event": "SHOUT", "name": "alice", "group": "CHAT", "content": ["back here"]}));

    alice.end_input();
    bob.expect(SOON, json!({"event": "EXIT", "peer": alice_id, "name": "alice"}));
    assert!(alice.ended(SOON).success());
    alice.expect(SOON, json!({"event": "STOP"}));
    bob.has_not_said(json!({"event": "ENTER"}));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn a_watcher_sees_a_chat_and_an_interrupt_says_goodbye() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    let mut watcher = Peer::hailer_peers(&lab, 0, "watcher", "CHAT");
    let mut bob = Peer::hailer_chat(&lab, 1, "bob", "CHAT");
    watcher.expect(SOON, json!({"event": "JOIN", "name": "bob", "group": "CHAT"}));
    bob.expect(SOON, json!({"event": "JOIN", "name": "watcher", "group": "CHAT"}));
    bob.say("seen?");
    watcher.expect(SOON, json!({"event": "SHOUT", "name": "bob", "content": ["seen?"]}));

    bob.interrupt();
    watcher.expect(SOON, json!({"event": "EXIT", "name": "bob"}));
    assert!(bob.ended(SOON).success(), "an interrupt is a clean end");
    watcher.interrupt();
    assert!(watcher.ended(SOON).success(), "an interrupt is a clean end");
    watcher.expect(SOON, json!({"event": "STOP"}));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn a_watcher_that_nobody_reads_any_more_says_goodbye() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    let mut alice = Peer::hailer_chat(&lab, 0, "alice", "CHAT");
    let mut watcher = lab
        .command(1, env!("CARGO_BIN_EXE_hailer"))
        .args(["peers", "--interface", "eth0", "--name", "watcher"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built for this test");
    alice.expect(SOON, json!({"event": "ENTER", "name": "watcher"}));
    // Nothing happens that it would print.
    drop(watcher.stdout.take());
    alice.expect(SOON, json!({"event": "EXIT", "name": "watcher", "reason": "left"}));
    assert!(watcher.wait().expect("it is our child").success(), "a reader that goes is no failure");
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn a_watcher_whose_output_is_stuck_answers_and_ends_all_the_same() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(3);
    let mut alice = Peer::hailer_chat(&lab, 0, "alice", "CHAT");
    let mut watcher = lab
        .command(1, env!("CARGO_BIN_EXE_hailer"))
        .args(["peers", "--interface", "eth0", "--name", "watcher", "--group", "CHAT"])
        // So that what waits for the pipe has nobody else's thread to leave the rest to.
        .env("TOKIO_WORKER_THREADS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built for this test");
    alice.expect(SOON, json!({"event": "JOIN", "name": "watcher"}));
    // Many times what a pipe holds. Its beginning is read, the rest never, and the pipe stays open.
    alice.say(&"long ".repeat(100_000));
    let mut stuck = watcher.stdout.take().expect("it is piped");
    let mut begun = String::new();
    while !begun.contains("long long") {
        let mut byte = [0];
        stuck.read_exact(&mut byte).expect("it prints the message");
        begun.push(byte[0].into());
    }
    let mut pinger = Peer::hailer(
        &lab,
        2,
        "pinger",
        &["ping", "watcher", "--count", "2", "--every", "100ms", "--interface", "eth0"],
    );
    pinger.expect(SOON, json!({"event": "SUMMARY", "name": "watcher", "answered": 2}));
    let pid = Pid::from_child(&watcher);
    kill_process(pid, Signal::TERM).expect("it is ours");
    alice.expect(SOON, json!({"event": "EXIT", "name": "watcher"}));
    assert_eq!(watcher.wait().expect("it is our child").code(), Some(1), "not all was shown");
    drop(stuck);
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn a_killed_hailer_is_noticed_within_three_seconds() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    let mut alice = Peer::hailer_chat(&lab, 0, "alice", "CHAT");
    let mut bob = Peer::hailer_chat(&lab, 1, "bob", "CHAT");
    alice.expect(SOON, json!({"event": "ENTER", "name": "bob"}));
    bob.expect(SOON, json!({"event": "ENTER", "name": "alice"}));
    bob.kill();
    alice.expect(KILLED_KNOWN_MAX, json!({"event": "EXIT", "name": "bob"}));
    bob.ended(SOON);
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn one_of_three_is_killed_and_comes_back_as_somebody_else() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(3);
    let names = ["alice", "bob", "carol"];
    let [mut alice, mut bob, mut carol] =
        [0, 1, 2].map(|host| Peer::hailer_chat(&lab, host, names[usize::from(host)], "CHAT"));
    let first_life = alice.expect(SOON, json!({"event": "JOIN", "name": "carol"}))["peer"].clone();
    alice.expect(SOON, json!({"event": "JOIN", "name": "bob"}));
    bob.expect(SOON, json!({"event": "JOIN", "name": "alice"}));
    bob.expect(SOON, json!({"event": "JOIN", "name": "carol"}));
    carol.expect(SOON, json!({"event": "JOIN", "name": "alice"}));
    carol.expect(SOON, json!({"event": "JOIN", "name": "bob"}));
    for peer in [&mut alice, &mut bob] {
        peer.expect(SOON, json!({"event": "ENTER", "peer": first_life}));
    }

    carol.kill();
    carol.ended(SOON);
    let mut carol = Peer::hailer_chat(&lab, 2, "carol", "CHAT");
    for peer in [&mut alice, &mut bob] {
        peer.expect(KILLED_KNOWN_MAX, json!({"event": "EXIT", "peer": first_life, "name": "carol"}));
        let second_life = peer.expect(SOON, json!({"event": "ENTER", "name": "carol"}))["peer"].clone();
        assert_ne!(second_life, first_life);
        peer.expect(SOON, json!({"event": "JOIN", "peer": second_life, "group": "CHAT"}));
    }
    carol.expect(SOON, json!({"event": "JOIN", "name": "alice"}));
    carol.expect(SOON, json!({"event": "JOIN", "name": "bob"}));
    carol.say("back again");
    for peer in [&mut alice, &mut bob] {
        peer.expect(SOON, json!({"event": "SHOUT", "name": "carol", "content": ["back again"]}));
        peer.has_not_said(json!({"event": "EXIT"}));
    }
}
