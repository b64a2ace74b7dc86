//! pyre, the Python ZRE node: with itself (which proves the laboratory), with our sockets, and with hailer.

use std::net::Ipv4Addr;

use hailer::net::{Net, UdpOptions, UdpSocket};
use serde_json::json;

use super::inside::Inside;
use super::lab::{self, Lab};
use super::peer::{self, Peer, SOON};

pub(crate) fn is_possible() -> bool {
    lab::is_available_or_say_so() && peer::is_pyre_available_or_say_so()
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn the_laboratory_carries_what_pyre_says_to_pyre() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let (mut alice, alice_id) = Peer::pyre(&lab, 0, "alice", &["CHAT", "X-ROLE=demo"]);
    let (mut bob, bob_id) = Peer::pyre(&lab, 1, "bob", &["CHAT"]);
    alice.expect(SOON, json!({"event": "ENTER", "peer": bob_id, "name": "bob", "headers": {}}));
    bob.expect(SOON, json!({"event": "ENTER", "peer": alice_id, "headers": {"X-ROLE": "demo"}}));
    alice.expect(SOON, json!({"event": "JOIN", "peer": bob_id, "group": "CHAT"}));
    bob.expect(SOON, json!({"event": "JOIN", "peer": alice_id, "group": "CHAT"}));
    alice.tell(json!({"do": "shout", "group": "CHAT", "content": ["one", "", "three"]}));
    bob.expect(
        SOON,
        json!({"event": "SHOUT", "name": "alice", "group": "CHAT", "content": ["one", "", "three"]}),
    );
    bob.tell(json!({"do": "whisper", "peer": alice_id, "content": ["psst"]}));
    alice.expect(SOON, json!({"event": "WHISPER", "name": "bob", "content": ["psst"]}));
    alice.tell(json!({"do": "stop"}));
    bob.expect(SOON, json!({"event": "EXIT", "peer": alice_id, "name": "alice"}));
    assert!(alice.ended(SOON).success());
}

/// The beacon port is shared with pyre on the same host, and both hear everybody.
#[tokio::test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
async fn our_sockets_and_pyres_share_the_beacon_port() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let ours = Inside::new(lab.namespace(0));
    let options = UdpOptions { reuse: true, ..UdpOptions::at((Ipv4Addr::UNSPECIFIED, 5670).into()) };
    let before = ours.bind_udp(&options).expect("before pyre");
    let (mut alice, alice_id) = Peer::pyre(&lab, 0, "alice", &[]);
    let (mut bob, bob_id) = Peer::pyre(&lab, 1, "bob", &[]);
    let after = ours.bind_udp(&options).expect("after pyre");
    alice.expect(SOON, json!({"event": "ENTER", "peer": bob_id}));
    bob.expect(SOON, json!({"event": "ENTER", "peer": alice_id}));
    for socket in [before, after] {
        for host in [0, 1] {
            let mut beacon = [0; 64];
            loop {
                let (len, from) = socket.recv_from(&mut beacon).await.expect("a beacon");
                assert_eq!((len, &beacon[..4]), (22, b"ZRE\x01".as_slice()));
                if from.ip() == lab.address(host) {
                    break;
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn hailer_and_pyre_meet_talk_and_part() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let (mut pyre, pyre_id) = Peer::pyre(&lab, 0, "snake", &["CHAT", "X-ROLE=demo"]);
    let mut ours = Peer::hailer_chat(&lab, 1, "ours", "CHAT");

    let entered = pyre.expect(SOON, json!({"event": "ENTER", "name": "ours"}));
    let our_id = entered["peer"].clone();
    let endpoint = entered["endpoint"].as_str().expect("an endpoint");
    assert!(endpoint.starts_with("tcp://10.77.0.2:"), "{endpoint}");
    pyre.expect(SOON, json!({"event": "JOIN", "peer": our_id, "name": "ours", "group": "CHAT"}));
    let entered = ours.expect(SOON, json!({"event": "ENTER", "peer": pyre_id, "name": "snake"}));
    assert_eq!(entered["headers"]["X-ROLE"], "demo");
    ours.expect(SOON, json!({"event": "JOIN", "peer": pyre_id, "name": "snake", "group": "CHAT"}));

    ours.say("hello snake");
    pyre.expect(SOON, json!({"event": "SHOUT", "peer": our_id, "name": "ours", "group": "CHAT", "content": ["hello snake"]}));
    ours.say("/whisper snake psst");
    pyre.expect(SOON, json!({"event": "WHISPER", "peer": our_id, "name": "ours", "content": ["psst"]}));
    pyre.tell(json!({"do": "shout", "group": "CHAT", "content": ["one", "", "three"]}));
    ours.expect(SOON, json!({"event": "SHOUT", "peer": pyre_id, "name": "snake", "group": "CHAT", "content": ["one", "", "three"]}));
    pyre.tell(json!({"do": "whisper", "peer": our_id, "content": ["first", "second"]}));
    ours.expect(
        SOON,
        json!({"event": "WHISPER", "peer": pyre_id, "name": "snake", "content": ["first", "second"]}),
    );

    ours.say("/join ROOM");
    pyre.expect(SOON, json!({"event": "JOIN", "peer": our_id, "group": "ROOM"}));
    ours.say("/leave ROOM");
    pyre.expect(SOON, json!({"event": "LEAVE", "peer": our_id, "group": "ROOM"}));
    pyre.tell(json!({"do": "join", "group": "DEN"}));
    ours.expect(SOON, json!({"event": "JOIN", "peer": pyre_id, "group": "DEN"}));
    pyre.tell(json!({"do": "leave", "group": "DEN"}));
    ours.expect(SOON, json!({"event": "LEAVE", "peer": pyre_id, "group": "DEN"}));

    pyre.tell(json!({"do": "stop"}));
    ours.expect(SOON, json!({"event": "EXIT", "peer": pyre_id, "name": "snake"}));
    assert!(pyre.ended(SOON).success());
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn pyre_hears_hailers_goodbye() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let mut ours = Peer::hailer_chat(&lab, 0, "ours", "CHAT");
    let (mut pyre, pyre_id) = Peer::pyre(&lab, 1, "snake", &[]);
    let our_id = pyre.expect(SOON, json!({"event": "ENTER", "name": "ours"}))["peer"].clone();
    ours.expect(SOON, json!({"event": "ENTER", "peer": pyre_id}));
    ours.end_input();
    pyre.expect(SOON, json!({"event": "EXIT", "peer": our_id, "name": "ours"}));
    assert!(ours.ended(SOON).success());
    pyre.has_not_said(json!({"event": "ENTER"}));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn hailer_and_pyre_share_a_host_and_both_meet_a_third() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let (mut here, here_id) = Peer::pyre(&lab, 0, "here", &["CHAT"]);
    let mut ours = Peer::hailer_chat(&lab, 0, "ours", "CHAT");
    let (mut there, there_id) = Peer::pyre(&lab, 1, "there", &["CHAT"]);
    for id in [&here_id, &there_id] {
        ours.expect(SOON, json!({"event": "JOIN", "peer": id, "group": "CHAT"}));
    }
    here.expect(SOON, json!({"event": "JOIN", "peer": there_id, "group": "CHAT"}));
    there.expect(SOON, json!({"event": "JOIN", "peer": here_id, "group": "CHAT"}));
    for peer in [&mut here, &mut there] {
        peer.expect(SOON, json!({"event": "JOIN", "name": "ours", "group": "CHAT"}));
    }
    ours.say("to both");
    for peer in [&mut here, &mut there] {
        peer.expect(SOON, json!({"event": "SHOUT", "name": "ours", "content": ["to both"]}));
    }
}
